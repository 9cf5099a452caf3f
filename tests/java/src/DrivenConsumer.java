import com.fasterxml.jackson.databind.JsonNode;
import java.io.DataOutputStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** One consumer. Every answer carries the calls of its rebalance listener since the last one. */
final class DrivenConsumer implements GroupHost.Driven, ConsumerRebalanceListener {
    private final KafkaConsumer<byte[], byte[]> consumer;
    private final boolean commitOnRevoke;
    private final List<Object> events = new ArrayList<>();
    private final List<ConsumerRecord<byte[], byte[]>> kept = new ArrayList<>();

    DrivenConsumer(JsonNode request) {
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        consumer = new KafkaConsumer<>(GroupHost.settings(request), bytes, bytes);
        commitOnRevoke = request.get("commit_on_revoke").asBoolean();
    }

    @Override
    public Object carryOut(String operation, JsonNode request, DataOutputStream records) throws Exception {
        Map<String, Object> value = new LinkedHashMap<>();
        try {
            switch (operation) {
                case "subscribe" -> consumer.subscribe(words(request.get("topics")), this);
                case "assign" -> consumer.assign(partitions(request));
                case "poll" -> consumer.poll(Duration.ofMillis(100)).forEach(kept::add);
                case "commit" -> commit(request);
                case "committed" -> value.put("committed", committed(partitions(request)));
                case "seek" -> consumer.seek(partitions(request).get(0), request.get("offset").asLong());
                case "close" -> consumer.close();
                default -> throw new IllegalArgumentException("there is no " + operation);
            }
        } finally {
            RecordFile.write(records, kept);
            kept.clear();
        }
        value.put("events", List.copyOf(events));
        events.clear();
        return value;
    }

    private void commit(JsonNode request) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> offsets = new LinkedHashMap<>();
        request.path("offsets").forEach(o -> offsets.put(
                new TopicPartition(o.get(0).asText(), o.get(1).asInt()),
                new OffsetAndMetadata(o.get(2).asLong(), o.get(3).asText())));
        boolean whole = offsets.isEmpty();
        if (request.get("wait").asBoolean()) {
            if (whole) {
                consumer.commitSync();
            } else {
                consumer.commitSync(offsets);
            }
            return;
        }
        List<Exception> outcome = new ArrayList<>();
        if (whole) {
            consumer.commitAsync((done, failed) -> outcome.add(failed));
        } else {
            consumer.commitAsync(offsets, (done, failed) -> outcome.add(failed));
        }
        while (outcome.isEmpty()) {
            consumer.poll(Duration.ofMillis(10)).forEach(kept::add);
        }
        if (outcome.get(0) != null) {
            throw outcome.get(0);
        }
    }

    private List<Object> committed(List<TopicPartition> partitions) {
        List<Object> found = new ArrayList<>();
        Set<TopicPartition> asked = new HashSet<>(partitions);
        consumer.committed(asked).forEach((partition, value) -> {
            if (value != null) {
                found.add(List.of(partition.topic(), partition.partition(), value.offset(), value.metadata()));
            }
        });
        return found;
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        note("assigned", partitions);
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        if (commitOnRevoke) {
            consumer.commitSync();
        }
        note("revoked", partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        note("revoked", partitions);
    }

    private void note(String kind, Collection<TopicPartition> partitions) {
        List<Object> plain = new ArrayList<>();
        partitions.forEach(p -> plain.add(List.of(p.topic(), p.partition())));
        events.add(List.of(kind, plain));
    }

    private static List<TopicPartition> partitions(JsonNode request) {
        List<TopicPartition> partitions = new ArrayList<>();
        request.get("partitions").forEach(p -> partitions.add(new TopicPartition(p.get(0).asText(), p.get(1).asInt())));
        return partitions;
    }

    private static List<String> words(JsonNode array) {
        List<String> words = new ArrayList<>();
        array.forEach(word -> words.add(word.asText()));
        return words;
    }

    @Override
    public void close() {
        consumer.close();
    }
}

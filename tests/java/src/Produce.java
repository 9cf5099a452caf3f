import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Writes a record file to topics, and checks that each record is confirmed at the offset that the file says.
 *
 * <p>Produce BOOTSTRAP FILE TOPIC[,setting=value...] ... (the producer's own defaults but for the settings named)
 */
final class Produce {
    public static void main(String[] arguments) throws Exception {
        List<RecordFile.Entry> entries = RecordFile.read(Path.of(arguments[1]));
        for (int i = 2; i < arguments.length; i++) {
            String[] topicAndSettings = arguments[i].split(",");
            Properties settings = new Properties();
            settings.put("bootstrap.servers", arguments[0]);
            for (int s = 1; s < topicAndSettings.length; s++) {
                String[] pair = topicAndSettings[s].split("=", 2);
                settings.put(pair[0], pair[1]);
            }
            produce(settings, topicAndSettings[0], entries);
        }
    }

    static void produce(Properties settings, String topic, List<RecordFile.Entry> entries) throws Exception {
        ByteArraySerializer bytes = new ByteArraySerializer();
        List<Future<RecordMetadata>> sent = new ArrayList<>(entries.size());
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, bytes, bytes)) {
            for (RecordFile.Entry e : entries) {
                sent.add(producer.send(
                        new ProducerRecord<>(topic, e.partition(), e.timestamp(), e.key(), e.value(), e.headers())));
            }
        }
        boolean confirmed = !"0".equals(settings.get("acks"));
        for (int i = 0; i < sent.size(); i++) {
            long offset = sent.get(i).get().offset();
            if (confirmed && offset != entries.get(i).offset()) {
                throw new AssertionError(topic + ": record " + i + " is at " + offset + ", not " + entries.get(i).offset());
            }
        }
        System.out.println(topic + ": " + sent.size() + " confirmed");
    }

    private Produce() {}
}

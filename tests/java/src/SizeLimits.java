import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * What the producer does with MESSAGE_TOO_LARGE: a batch of many records is split and sent again, a single record that is
 * too large fails alone.
 *
 * <p>SizeLimits BOOTSTRAP TOPIC LARGEST_SINGLE_VALUE
 */
final class SizeLimits {
    public static void main(String[] arguments) throws Exception {
        String topic = arguments[1];
        int largest = Integer.parseInt(arguments[2]);
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        // The client's own limits are lifted, so that the server's are met.
        settings.put("max.request.size", "16000000");
        settings.put("batch.size", "8000000");
        settings.put("linger.ms", "500");
        ByteArraySerializer bytes = new ByteArraySerializer();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, bytes, bytes)) {
            expectSplit(producer, topic);
            send(producer, topic, largest).get();
            try {
                send(producer, topic, largest + 1).get();
                throw new AssertionError("a record one byte over the limit was taken");
            } catch (ExecutionException refused) {
                if (!(refused.getCause() instanceof RecordTooLargeException)) {
                    throw refused;
                }
            }
            long last = send(producer, topic, 10).get().offset();
            System.out.println("last offset " + last);
        }
    }

    /** Forty records of 100,000 bytes gather in one batch of four times the limit. */
    private static void expectSplit(KafkaProducer<byte[], byte[]> producer, String topic) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int i = 0; i < 40; i++) {
            sent.add(send(producer, topic, 100_000));
        }
        for (int i = 0; i < sent.size(); i++) {
            if (sent.get(i).get().offset() != i) {
                throw new AssertionError("record " + i + " of the split batch is at " + sent.get(i).get().offset());
            }
        }
        double splits = producer.metrics().entrySet().stream()
                .filter(m -> m.getKey().name().equals("batch-split-total"))
                .mapToDouble(m -> (Double) m.getValue().metricValue())
                .sum();
        if (splits == 0) {
            throw new AssertionError("the batch was not split: the limit was not met");
        }
    }

    private static Future<RecordMetadata> send(KafkaProducer<byte[], byte[]> producer, String topic, int size) {
        return producer.send(new ProducerRecord<>(topic, 0, null, new byte[size]));
    }

    private SizeLimits() {}
}

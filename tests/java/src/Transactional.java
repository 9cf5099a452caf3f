import java.util.Properties;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * What a producer with a transactional id says when it begins: prints the milliseconds it took and the exception, or
 * "ready".
 *
 * <p>Transactional BOOTSTRAP ID
 */
final class Transactional {
    public static void main(String[] arguments) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("transactional.id", arguments[1]);
        ByteArraySerializer bytes = new ByteArraySerializer();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, bytes, bytes)) {
            long begun = System.nanoTime();
            String outcome = "ready";
            try {
                producer.initTransactions();
            } catch (KafkaException refused) {
                outcome = refused.toString();
            }
            System.out.println(TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - begun) + " " + outcome);
        }
    }

    private Transactional() {}
}

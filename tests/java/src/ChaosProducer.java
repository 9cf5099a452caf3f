import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * An idempotent producer of numbered records, {@code NAME/NUMBER/0/1}, round the partitions, for the chaos test. It is told
 * "go", "pause" and "end" on its input. On its output a line for each thing that happens, with the time by the machine's
 * monotonic clock: {@code sent NUMBER NANOS}, {@code acknowledged NUMBER OFFSET NANOS}, {@code failed NUMBER WHY}, and
 * {@code paused} when nothing is under way.
 *
 * <p>java ChaosProducer BOOTSTRAP TOPIC PARTITIONS NAME
 */
final class ChaosProducer {
    private static volatile String order = "pause";

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("request.timeout.ms", "5000");
        settings.put("delivery.timeout.ms", "300000");
        settings.put("max.block.ms", "300000");
        settings.put("reconnect.backoff.max.ms", "500");
        settings.put("linger.ms", "5");
        int partitions = Integer.parseInt(arguments[2]);
        Thread listener = new Thread(ChaosProducer::listen);
        listener.setDaemon(true);
        listener.start();
        var bytes = new ByteArraySerializer();
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(settings, bytes, bytes)) {
            String last = "pause";
            for (int number = 0; !order.equals("end"); ) {
                String now = order;
                if (now.equals("go")) {
                    send(producer, arguments[1], number % partitions, number, arguments[3]);
                    number++;
                } else if (!now.equals(last)) {
                    producer.flush();
                    say("paused");
                }
                last = now;
                Thread.sleep(20);
            }
        }
    }

    private static void send(KafkaProducer<byte[], byte[]> producer, String topic, int partition, int number, String name) {
        say("sent " + number + " " + System.nanoTime());
        byte[] value = (name + "/" + number + "/0/1").getBytes(StandardCharsets.UTF_8);
        producer.send(new ProducerRecord<>(topic, partition, null, value), (metadata, error) -> {
            if (error == null) {
                say("acknowledged " + number + " " + metadata.offset() + " " + System.nanoTime());
            } else {
                say("failed " + number + " " + error);
            }
        });
    }

    private static synchronized void say(String line) {
        System.out.println(line);
        System.out.flush();
    }

    private static void listen() {
        try (BufferedReader orders = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = orders.readLine(); line != null; line = orders.readLine()) {
                order = line;
            }
        } catch (java.io.IOException error) {
            say("failed 0 " + error);
        }
        order = "end";
    }
}

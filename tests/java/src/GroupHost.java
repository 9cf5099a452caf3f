import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Consumers, admin clients and producers that a test drives from outside: each connection to this process is one of
 * them, and lives on a thread of its own. Prints its port.
 *
 * <p>A request is one line of JSON, with the operation's name as "do". An answer is the length and bytes of a JSON object,
 * then the length and bytes of a record file (see RecordFile), all lengths four bytes. An exception is answered as
 * "error" and "kind". The process ends with its standard input.
 */
final class GroupHost {
    /** What a connection drives. */
    interface Driven {
        /** Carries out one request; the answer may be null. Records go to the stream. */
        Object carryOut(String operation, JsonNode request, DataOutputStream records) throws Exception;

        void close();
    }

    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        ServerSocket listener = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
        System.out.println(listener.getLocalPort());
        startThread(() -> accept(listener));
        while (System.in.read() >= 0) {}
        System.exit(0);
    }

    private static void accept(ServerSocket listener) {
        try {
            while (true) {
                Socket socket = listener.accept();
                socket.setTcpNoDelay(true);
                startThread(() -> serve(socket));
            }
        } catch (IOException end) {
            throw new IllegalStateException(end);
        }
    }

    private static void startThread(Runnable work) {
        Thread thread = new Thread(work);
        thread.setDaemon(true);
        thread.start();
    }

    private static void serve(Socket socket) {
        Driven driven = null;
        try (socket) {
            BufferedReader in = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8));
            DataOutputStream out = new DataOutputStream(socket.getOutputStream());
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                JsonNode request = JSON.readTree(line);
                ByteArrayOutputStream records = new ByteArrayOutputStream();
                Map<String, Object> answer = new LinkedHashMap<>();
                try {
                    if (driven == null) {
                        driven = open(request);
                    } else {
                        answer.put("value", driven.carryOut(request.get("do").asText(), request, new DataOutputStream(records)));
                    }
                } catch (Exception failed) {
                    Throwable cause = failed instanceof java.util.concurrent.ExecutionException ? failed.getCause() : failed;
                    answer.put("kind", cause.getClass().getSimpleName());
                    answer.put("error", String.valueOf(cause.getMessage()));
                }
                send(out, JSON.writeValueAsBytes(answer));
                send(out, records.toByteArray());
                out.flush();
            }
        } catch (IOException gone) {
            System.err.println("a connection broke: " + gone);
        } finally {
            if (driven != null) {
                driven.close();
            }
        }
    }

    private static Driven open(JsonNode request) throws Exception {
        return switch (request.get("do").asText()) {
            case "consumer" -> new DrivenConsumer(request);
            case "admin" -> new DrivenAdmin(request);
            case "producer" -> new DrivenProducer(request);
            default -> throw new IllegalArgumentException("there is no " + request);
        };
    }

    private static void send(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes.length);
        out.write(bytes);
    }

    /** The member "settings" of a request as the client's configuration. */
    static Map<String, Object> settings(JsonNode request) {
        Map<String, Object> settings = new LinkedHashMap<>();
        request.get("settings").properties().forEach(s -> settings.put(s.getKey(), s.getValue().asText()));
        return settings;
    }

    private GroupHost() {}
}

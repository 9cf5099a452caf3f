import com.fasterxml.jackson.databind.JsonNode;
import java.io.DataOutputStream;
import java.nio.file.Path;
import java.util.Map;
import java.util.Properties;

/** Writes record files, as the program Produce does. */
final class DrivenProducer implements GroupHost.Driven {
    private final Map<String, Object> settings;

    DrivenProducer(JsonNode request) {
        settings = GroupHost.settings(request);
    }

    @Override
    public Object carryOut(String operation, JsonNode request, DataOutputStream records) throws Exception {
        Properties all = new Properties();
        all.putAll(settings);
        Produce.produce(all, request.get("topic").asText(), RecordFile.read(Path.of(request.get("file").asText())));
        return null;
    }

    @Override
    public void close() {}
}

import com.fasterxml.jackson.databind.JsonNode;
import java.io.DataOutputStream;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;

/** The admin client: one operation a request, each awaited. */
final class DrivenAdmin implements GroupHost.Driven {
    private final Admin admin;

    DrivenAdmin(JsonNode request) {
        admin = Admin.create(GroupHost.settings(request));
    }

    @Override
    public Object carryOut(String operation, JsonNode request, DataOutputStream records) throws Exception {
        String name = request.path("name").asText();
        switch (operation) {
            case "create_topic" -> admin.createTopics(List.of(new NewTopic(name, request.get("partitions").asInt(), (short) 1))).all().get();
            case "add_partitions" ->
                admin.createPartitions(Map.of(name, NewPartitions.increaseTo(request.get("partitions").asInt()))).all().get();
            case "delete_topic" -> admin.deleteTopics(List.of(name)).all().get();
            case "list_groups" -> {
                Map<String, String> states = new LinkedHashMap<>();
                admin.listGroups(ListGroupsOptions.forConsumerGroups()).all().get()
                        .forEach(g -> states.put(g.groupId(), g.groupState().map(Object::toString).orElse("")));
                return states;
            }
            case "describe_group" -> {
                return describe(admin.describeConsumerGroups(List.of(name)).all().get().get(name));
            }
            case "delete_group" -> admin.deleteConsumerGroups(List.of(name)).all().get();
            case "list_offsets" -> {
                List<Object> found = new ArrayList<>();
                admin.listConsumerGroupOffsets(name).partitionsToOffsetAndMetadata().get().forEach((p, value) -> {
                    if (value != null) {
                        found.add(List.of(p.topic(), p.partition(), value.offset()));
                    }
                });
                return found;
            }
            case "alter_offsets" -> {
                Map<TopicPartition, OffsetAndMetadata> offsets = new LinkedHashMap<>();
                request.get("offsets").forEach(o -> offsets.put(
                        new TopicPartition(o.get(0).asText(), o.get(1).asInt()),
                        new OffsetAndMetadata(o.get(2).asLong(), Optional.empty(), "")));
                admin.alterConsumerGroupOffsets(name, offsets).all().get();
            }
            case "delete_offsets" -> {
                Set<TopicPartition> partitions = new HashSet<>();
                request.get("partitions").forEach(p -> partitions.add(new TopicPartition(p.get(0).asText(), p.get(1).asInt())));
                admin.deleteConsumerGroupOffsets(name, partitions).all().get();
            }
            default -> throw new IllegalArgumentException("there is no " + operation);
        }
        return null;
    }

    private static Object describe(ConsumerGroupDescription group) {
        List<Object> members = new ArrayList<>();
        group.members().forEach(m -> {
            List<Object> owned = new ArrayList<>();
            m.assignment().topicPartitions().forEach(p -> owned.add(List.of(p.topic(), p.partition())));
            members.add(List.of(m.consumerId(), m.groupInstanceId().orElse(""), owned));
        });
        return Map.of("state", group.groupState().toString(), "assignor", group.partitionAssignor(), "members", members);
    }

    @Override
    public void close() {
        admin.close();
    }
}

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;

/** The file in which the suites hand records on; its form is told in tests/harness/dataset.py. */
final class RecordFile {
    record Entry(int partition, long offset, long timestamp, byte[] key, byte[] value, List<Header> headers) {}

    static List<Entry> read(Path path) throws IOException {
        List<Entry> entries = new ArrayList<>();
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(Files.newInputStream(path)))) {
            while (true) {
                int partition;
                try {
                    partition = in.readInt();
                } catch (EOFException end) {
                    return entries;
                }
                long offset = in.readLong();
                long timestamp = in.readLong();
                byte[] key = readBlob(in);
                byte[] value = readBlob(in);
                entries.add(new Entry(partition, offset, timestamp, key, value, readHeaders(in)));
            }
        }
    }

    private static List<Header> readHeaders(DataInputStream in) throws IOException {
        List<Header> headers = new ArrayList<>();
        for (int left = in.readInt(); left > 0; left--) {
            String name = new String(readBlob(in), StandardCharsets.UTF_8);
            headers.add(new RecordHeader(name, readBlob(in)));
        }
        return headers;
    }

    private static byte[] readBlob(DataInputStream in) throws IOException {
        int size = in.readInt();
        return size < 0 ? null : in.readNBytes(size);
    }

    static void write(Path path, Iterable<ConsumerRecord<byte[], byte[]>> records) throws IOException {
        try (DataOutputStream out = new DataOutputStream(new BufferedOutputStream(Files.newOutputStream(path)))) {
            write(out, records);
        }
    }

    static void write(DataOutputStream out, Iterable<ConsumerRecord<byte[], byte[]>> records) throws IOException {
        for (ConsumerRecord<byte[], byte[]> record : records) {
            out.writeInt(record.partition());
            out.writeLong(record.offset());
            out.writeLong(record.timestamp());
            writeBlob(out, record.key());
            writeBlob(out, record.value());
            Header[] headers = record.headers().toArray();
            out.writeInt(headers.length);
            for (Header header : headers) {
                writeBlob(out, header.key().getBytes(StandardCharsets.UTF_8));
                writeBlob(out, header.value());
            }
        }
    }

    private static void writeBlob(DataOutputStream out, byte[] value) throws IOException {
        out.writeInt(value == null ? -1 : value.length);
        if (value != null) {
            out.write(value);
        }
    }

    private RecordFile() {}
}

package languages;

import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.util.Arrays;

/** The methods, and messages as their bytes: {@code message Chunk { bytes data = 1; }}. */
final class Wire {
  static final String SERVICE = "languages.Bytes";

  private static final MethodDescriptor.Marshaller<byte[]> BYTES =
      new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream stream(byte[] value) {
          return new ByteArrayInputStream(value);
        }

        @Override
        public byte[] parse(InputStream stream) {
          try {
            return stream.readAllBytes();
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        }
      };

  static final MethodDescriptor<byte[], byte[]> UNARY = method("Unary", MethodType.UNARY);
  static final MethodDescriptor<byte[], byte[]> CLIENT = method("ClientStream", MethodType.CLIENT_STREAMING);
  static final MethodDescriptor<byte[], byte[]> SERVER = method("ServerStream", MethodType.SERVER_STREAMING);
  static final MethodDescriptor<byte[], byte[]> BIDI = method("BidiStream", MethodType.BIDI_STREAMING);

  private static MethodDescriptor<byte[], byte[]> method(String name, MethodType type) {
    return MethodDescriptor.newBuilder(BYTES, BYTES)
        .setType(type)
        .setFullMethodName(MethodDescriptor.generateFullMethodName(SERVICE, name))
        .build();
  }

  /** A message whose data has this size. */
  static byte[] message(int size) {
    if (size == 0) return new byte[0];
    byte[] head = new byte[6];
    int length = 0;
    head[length++] = 0x0a;
    for (int rest = size; ; rest >>= 7) {
      head[length++] = (byte) (rest < 128 ? rest : (rest & 0x7f) | 0x80);
      if (rest < 128) break;
    }
    byte[] message = Arrays.copyOf(head, length + size);
    for (int i = 0; i < size; i++) message[length + i] = (byte) (i * 31 + (i >> 8));
    return message;
  }

  /** Where the data of a message begins. */
  static int dataOffset(byte[] message) {
    if (message.length == 0) return 0;
    int at = 1;
    while ((message[at++] & 0x80) != 0) continue;
    return at;
  }

  static void put(Metadata metadata, String name, String value) {
    if (name.endsWith("-bin")) metadata.put(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER), Lines.unhex(value));
    else metadata.put(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER), value);
  }

  static String get(Metadata metadata, String name) {
    return metadata.get(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER));
  }

  /** Copies what the caller wants back: the fields whose names begin with {@code e-}. */
  static void echo(Metadata from, Metadata to) {
    for (String name : from.keys()) {
      if (!name.startsWith("e-")) continue;
      if (name.endsWith("-bin")) copy(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER), from, to);
      else copy(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER), from, to);
    }
  }

  private static <T> void copy(Metadata.Key<T> key, Metadata from, Metadata to) {
    for (T value : from.getAll(key)) to.put(key, value);
  }
}

package languages;

import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Channel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import java.io.BufferedReader;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.zip.CRC32;

/** Makes the calls that the suite asks for, each in a thread of its own. */
final class Client {
  private final Channel channel;
  private final ExecutorService threads = Executors.newCachedThreadPool();
  private final Map<String, Semaphore> holds = new ConcurrentHashMap<>();

  Client(Channel channel) {
    this.channel = channel;
  }

  void serve(InputStream input) throws Exception {
    BufferedReader reader = new BufferedReader(new InputStreamReader(input));
    for (String line = reader.readLine(); line != null; line = reader.readLine()) {
      String[] words = line.split(" ");
      if (words[0].equals("go")) {
        holds.get(words[1]).release();
        continue;
      }
      holds.put(words[0], new Semaphore(0));
      threads.execute(() -> new Run(words).run());
    }
    threads.shutdown();
    threads.awaitTermination(30, TimeUnit.SECONDS);
  }

  private final class Run extends ClientCall.Listener<byte[]> {
    private static final byte[] END = new byte[0];

    private final String id;
    private final String kind;
    private final Map<String, String> asked = new HashMap<>();
    private final Metadata request = new Metadata();
    private final BlockingQueue<byte[]> messages = new LinkedBlockingQueue<>();
    private final Semaphore ready = new Semaphore(0);
    private final List<String> sizes = new ArrayList<>();
    private final CRC32 crc = new CRC32();
    private final int holdAt;
    private ClientCall<byte[], byte[]> call;
    private Metadata initial = new Metadata();
    private volatile Status status;
    private Metadata trailing = new Metadata();
    private int received;
    private boolean over;

    Run(String[] words) {
      id = words[0];
      kind = words[1];
      for (int i = 2; i < words.length; i++) {
        int at = words[i].indexOf('=');
        String name = words[i].substring(0, at);
        String value = Lines.decode(words[i].substring(at + 1));
        if (name.startsWith("m.")) Wire.put(request, name.substring(2), value);
        else asked.put(name, value);
      }
      holdAt = Integer.parseInt(asked.getOrDefault("hold", "-1"));
    }

    void run() {
      try {
        make();
      } catch (Exception error) {
        Lines.say(id + " end code=client message=" + Lines.encode(error.toString()));
      }
    }

    private void make() throws InterruptedException {
      CallOptions options = CallOptions.DEFAULT;
      if (asked.containsKey("deadline")) {
        options = options.withDeadlineAfter(Integer.parseInt(asked.get("deadline")), TimeUnit.MILLISECONDS);
      }
      if (asked.containsKey("gzip")) options = options.withCompression("gzip");
      MethodDescriptor<byte[], byte[]> method =
          switch (kind) {
            case "unary" -> Wire.UNARY;
            case "client" -> Wire.CLIENT;
            case "server" -> Wire.SERVER;
            default -> Wire.BIDI;
          };
      call = channel.newCall(method, options);
      call.start(this, request);
      // As the generated stubs do: two for a single answer, so that its status comes along.
      call.request(method.getType().serverSendsOneMessage() ? 2 : 1);
      for (String size : asked.getOrDefault("send", "").split(",")) {
        if (size.isEmpty() || over) break;
        if (!method.getType().clientSendsOneMessage()) {
          while (!call.isReady() && status == null) ready.tryAcquire(50, TimeUnit.MILLISECONDS);
          if (status != null) break;
        }
        call.sendMessage(Wire.message(Integer.parseInt(size)));
        if (asked.containsKey("turns")) receive();
      }
      if (!over) call.halfClose();
      if (holdAt == 0) hold();
      while (receive()) continue;
      report();
    }

    private boolean receive() throws InterruptedException {
      byte[] message = messages.take();
      if (message == END) {
        over = true;
        messages.add(END);
        return false;
      }
      int offset = Wire.dataOffset(message);
      sizes.add(String.valueOf(message.length - offset));
      crc.update(message, offset, message.length - offset);
      call.request(1);
      if (++received == holdAt) hold();
      return true;
    }

    private void hold() throws InterruptedException {
      Lines.say(id + " held");
      holds.get(id).acquire();
      if (!asked.containsKey("cancel")) return;
      over = true;
      call.cancel("the suite asked for it", null);
    }

    private void report() {
      StringBuilder line = new StringBuilder(id + " end code=" + status.getCode().value());
      line.append(" message=").append(Lines.encode(status.getDescription() == null ? "" : status.getDescription()));
      line.append(" sizes=").append(String.join(",", sizes)).append(" crc=").append(crc.getValue());
      append(line, "i.", initial);
      append(line, "t.", trailing);
      Lines.say(line.toString());
    }

    private void append(StringBuilder line, String prefix, Metadata metadata) {
      for (String name : new TreeSet<>(metadata.keys())) {
        if (name.endsWith("-bin")) {
          for (byte[] value : metadata.getAll(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER))) {
            line.append(' ').append(prefix).append(name).append('=').append(Lines.hex(value));
          }
        } else {
          for (String value : metadata.getAll(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER))) {
            line.append(' ').append(prefix).append(name).append('=').append(Lines.encode(value));
          }
        }
      }
    }

    @Override
    public void onHeaders(Metadata headers) {
      initial = headers;
    }

    @Override
    public void onMessage(byte[] message) {
      // An empty message is another object than the end.
      messages.add(message == END ? new byte[0] : message);
    }

    @Override
    public void onClose(Status end, Metadata trailers) {
      trailing = trailers;
      status = end;
      messages.add(END);
      ready.release();
    }

    @Override
    public void onReady() {
      ready.release();
    }
  }
}

package languages;

import io.grpc.BindableService;
import io.grpc.Context;
import io.grpc.Deadline;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.ServerCall;
import io.grpc.ServerServiceDefinition;
import io.grpc.Status;
import java.util.ArrayDeque;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** Answers as the request's metadata asks; see the suite's README. */
final class BytesService implements BindableService {
  final CountDownLatch stopped = new CountDownLatch(1);

  @Override
  public ServerServiceDefinition bindService() {
    ServerServiceDefinition.Builder builder = ServerServiceDefinition.builder(Wire.SERVICE);
    for (MethodDescriptor<byte[], byte[]> method :
        java.util.List.of(Wire.UNARY, Wire.CLIENT, Wire.SERVER, Wire.BIDI)) {
      builder.addMethod(
          method,
          (call, headers) -> {
            Run run = new Run(method.getType(), call, headers);
            run.begin();
            return run;
          });
    }
    return builder.build();
  }

  private final class Run extends ServerCall.Listener<byte[]> {
    private final MethodType type;
    private final ServerCall<byte[], byte[]> call;
    private final Metadata asked;
    private final Metadata trailing = new Metadata();
    private final ArrayDeque<byte[]> answers = new ArrayDeque<>();
    private final String key;
    private final int code;
    private final int after;
    private int received;
    private int total;
    private int sent;
    private boolean headersSent;
    private boolean complete;
    private boolean over;

    Run(MethodType type, ServerCall<byte[], byte[]> call, Metadata asked) {
      this.type = type;
      this.call = call;
      this.asked = asked;
      key = Wire.get(asked, "do-key");
      code = number("do-code", 0);
      after = number("do-after", code == 0 ? -1 : 0);
    }

    private int number(String name, int otherwise) {
      String value = Wire.get(asked, name);
      return value == null ? otherwise : Integer.parseInt(value);
    }

    private boolean asks(String name) {
      return Wire.get(asked, name) != null;
    }

    void begin() {
      if (key != null) Lines.say(key + " started");
      Wire.echo(asked, trailing);
      if (asks("do-deadline")) {
        Deadline deadline = Context.current().getDeadline();
        String left = deadline == null ? "none" : "" + deadline.timeRemaining(TimeUnit.MILLISECONDS);
        Wire.put(trailing, "deadline", left);
      }
      if (after == 0) {
        end();
        return;
      }
      if (asks("do-gzip")) call.setCompression("gzip");
      call.request(type.clientSendsOneMessage() ? 2 : 1);
    }

    @Override
    public void onMessage(byte[] message) {
      if (over) return;
      received++;
      total += message.length - Wire.dataOffset(message);
      switch (type) {
        case UNARY -> answers.add(message);
        case SERVER_STREAMING -> {
          for (int i = 0; i < number("do-count", 0); i++) answers.add(message);
        }
        case BIDI_STREAMING -> {
          answers.add(message);
          if (!asks("do-late")) pump();
        }
        default -> {
          if (received == after) complete = true;
          pump();
        }
      }
      if (!over && !type.clientSendsOneMessage()) call.request(1);
    }

    @Override
    public void onHalfClose() {
      if (asks("do-hang")) return;
      complete = true;
      pump();
    }

    @Override
    public void onReady() {
      if (!asks("do-late") || complete) pump();
    }

    @Override
    public void onCancel() {
      over = true;
      if (key != null) Lines.say(key + " cancelled");
    }

    /** Sends what there is to be sent and what fits, and ends when that is all. */
    private void pump() {
      if (over || asks("do-hang") || (type.clientSendsOneMessage() && !complete)) return;
      if (complete && type == MethodType.CLIENT_STREAMING && sent == 0 && answers.isEmpty()) {
        if (code == 0) answers.add(Wire.message(total));
      }
      while (!answers.isEmpty() && (call.isReady() || type.serverSendsOneMessage())) {
        if (!headersSent) {
          headersSent = true;
          Metadata initial = new Metadata();
          Wire.echo(asked, initial);
          call.sendHeaders(initial);
        }
        call.sendMessage(answers.poll());
        if (++sent == after) {
          end();
          return;
        }
      }
      if (complete && answers.isEmpty()) end();
    }

    private void end() {
      over = true;
      String text = Wire.get(asked, "do-message");
      byte[] details = asked.get(Metadata.Key.of("do-details-bin", Metadata.BINARY_BYTE_MARSHALLER));
      if (details != null) Wire.put(trailing, "grpc-status-details-bin", Lines.hex(details));
      Status status = Status.fromCodeValue(code);
      call.close(text == null ? status : status.withDescription(Lines.decode(text)), trailing);
      if (asks("do-stop")) stopped.countDown();
    }
  }
}

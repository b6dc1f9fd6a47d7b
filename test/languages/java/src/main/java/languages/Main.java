package languages;

import io.grpc.BindableService;
import io.grpc.InsecureServerCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Server;
import io.grpc.ServerBuilder;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.okhttp.OkHttpChannelBuilder;
import io.grpc.okhttp.OkHttpServerBuilder;
import java.util.concurrent.TimeUnit;

/** grpc-java on Netty or OkHttp, in either role: {@code Main client|server netty|okhttp PORT}. */
public final class Main {
  public static void main(String[] args) throws Exception {
    int port = Integer.parseInt(args[2]);
    boolean netty = args[1].equals("netty");
    if (args[0].equals("client")) {
      ManagedChannel channel =
          (netty
                  ? NettyChannelBuilder.forAddress("127.0.0.1", port).usePlaintext()
                  : OkHttpChannelBuilder.forAddress("127.0.0.1", port).usePlaintext())
              .build();
      new Client(channel).serve(System.in);
      channel.shutdownNow();
      System.exit(0);
    }
    BytesService service = new BytesService();
    ServerBuilder<?> builder =
        netty
            ? NettyServerBuilder.forPort(port)
            : OkHttpServerBuilder.forPort(port, InsecureServerCredentials.create());
    Server server = builder.addService((BindableService) service).build().start();
    Lines.say("listening");
    service.stopped.await();
    server.shutdown();
    server.awaitTermination(60, TimeUnit.SECONDS);
    System.exit(0);
  }
}

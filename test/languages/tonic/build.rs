//! Generates the service's client and server without a .proto file: messages are bytes.
use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let method = |name: &str, route: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type("Vec<u8>")
            .output_type("Vec<u8>")
            .codec_path("crate::codec::BytesCodec")
    };
    let service = Service::builder()
        .name("Bytes")
        .package("languages")
        .method(method("unary", "Unary").build())
        .method(method("client_stream", "ClientStream").client_streaming().build())
        .method(method("server_stream", "ServerStream").server_streaming().build())
        .method(method("bidi_stream", "BidiStream").client_streaming().server_streaming().build())
        .build();
    Builder::new().compile(&[service]);
}

//! tonic in either role: `languages client|server PORT`.
mod client;
mod codec;
mod lines;
mod server;

pub mod service {
    include!(concat!(env!("OUT_DIR"), "/languages.Bytes.rs"));
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let port: u16 = args[2].parse().expect("a port");
    match args[1].as_str() {
        "client" => client::run(port).await,
        _ => server::run(port).await,
    }
}

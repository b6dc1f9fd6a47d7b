//! Answers as the request's metadata asks; see the suite's README.
use crate::codec::{data, message};
use crate::lines::{decode, put, say};
use crate::service::bytes_server::{Bytes, BytesServer};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::codec::{CompressionEncoding, Streaming};
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};

const CANCEL_FOLLOWS: Duration = Duration::from_secs(2);

struct Service {
    stop: Arc<Notify>,
}

/// What the metadata asks for.
struct Asked {
    metadata: MetadataMap,
}

impl Asked {
    fn text(&self, name: &str) -> Option<&str> {
        self.metadata.get(name).and_then(|value| value.to_str().ok())
    }

    fn has(&self, name: &str) -> bool {
        self.metadata.contains_key(name)
    }

    fn number(&self, name: &str, otherwise: i64) -> i64 {
        self.text(name).map_or(otherwise, |text| text.parse().expect("a number"))
    }

    fn code(&self) -> i32 {
        self.number("do-code", 0) as i32
    }

    /// After how many messages the end comes; -1: after all.
    fn after(&self) -> i64 {
        self.number("do-after", if self.code() == 0 { -1 } else { 0 })
    }

    fn echo(&self, to: &mut MetadataMap) {
        for field in self.metadata.iter() {
            match field {
                KeyAndValueRef::Ascii(name, value) if name.as_str().starts_with("e-") => {
                    to.append(name.clone(), value.clone());
                }
                KeyAndValueRef::Binary(name, value) if name.as_str().starts_with("e-") => {
                    to.append_bin(name.clone(), value.clone());
                }
                _ => {}
            }
        }
    }

    /// tonic sends no trailing metadata with OK, so the deadline is in the initial metadata, too.
    fn initial(&self) -> MetadataMap {
        let mut initial = MetadataMap::new();
        self.echo(&mut initial);
        if self.has("do-deadline") {
            let _ = put(&mut initial, "deadline", &self.deadline());
        }
        initial
    }

    fn deadline(&self) -> String {
        let Some(text) = self.text("grpc-timeout") else { return "none".into() };
        let (digits, unit) = text.split_at(text.len() - 1);
        let per_second = match unit {
            "n" => 1_000_000_000.0,
            "u" => 1_000_000.0,
            "m" => 1_000.0,
            "M" => 1.0 / 60.0,
            "H" => 1.0 / 3600.0,
            _ => 1.0,
        };
        format!("{:.0}", digits.parse::<f64>().expect("digits") / per_second * 1_000.0)
    }

    /// The end that is asked for, as an error; None is OK.
    fn failure(&self) -> Option<Status> {
        if self.code() == 0 {
            return None;
        }
        let mut trailing = MetadataMap::new();
        self.echo(&mut trailing);
        let details = self.metadata.get_bin("do-details-bin").and_then(|value| value.to_bytes().ok());
        let text = decode(self.text("do-message").unwrap_or(""));
        Some(Status::with_details_and_metadata(Code::from(self.code()), text, details.unwrap_or_default(), trailing))
    }

    fn response<T>(&self, body: T) -> Response<T> {
        let mut response = Response::new(body);
        *response.metadata_mut() = self.initial();
        if !self.has("do-gzip") {
            response.disable_compression();
        }
        response
    }
}

/// Says that the call was cancelled when it is dropped before its end.
struct Guard {
    key: Option<String>,
    ended: bool,
}

impl Guard {
    fn new(asked: &Asked) -> Self {
        let key = asked.text("do-key").map(str::to_string);
        if let Some(key) = &key {
            say(&format!("{key} started"));
        }
        Guard { key, ended: false }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let (Some(key), false) = (&self.key, self.ended) {
            say(&format!("{key} cancelled"));
        }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<Vec<u8>, Status>> + Send>>;

#[tonic::async_trait]
impl Bytes for Service {
    async fn unary(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Status> {
        let (metadata, _, body) = request.into_parts();
        let asked = Asked { metadata };
        let mut guard = Guard::new(&asked);
        if asked.has("do-hang") {
            std::future::pending::<()>().await;
        }
        guard.ended = true;
        if asked.has("do-stop") {
            self.stop.notify_one();
        }
        match asked.failure() {
            Some(status) => Err(status),
            None => Ok(asked.response(body)),
        }
    }

    async fn client_stream(&self, request: Request<Streaming<Vec<u8>>>) -> Result<Response<Vec<u8>>, Status> {
        let (metadata, _, mut requests) = request.into_parts();
        let asked = Asked { metadata };
        let mut guard = Guard::new(&asked);
        let mut total = 0;
        let mut received = 0;
        while received != asked.after() {
            let Some(next) = requests.message().await? else { break };
            received += 1;
            total += data(&next).len();
        }
        guard.ended = true;
        match asked.failure() {
            Some(status) => Err(status),
            None => Ok(asked.response(message(total))),
        }
    }

    type ServerStreamStream = Answers;

    async fn server_stream(&self, request: Request<Vec<u8>>) -> Result<Response<Answers>, Status> {
        let (metadata, _, body) = request.into_parts();
        let asked = Asked { metadata };
        let count = asked.number("do-count", 0) as usize;
        let copies = tokio_stream::iter(std::iter::repeat_n(Ok(body), count));
        answer(asked, Box::pin(copies))
    }

    type BidiStreamStream = Answers;

    async fn bidi_stream(&self, request: Request<Streaming<Vec<u8>>>) -> Result<Response<Answers>, Status> {
        let (metadata, _, requests) = request.into_parts();
        let asked = Asked { metadata };
        if !asked.has("do-late") {
            return answer(asked, Box::pin(requests));
        }
        let response = asked.response(());
        let all: Vec<_> = requests.collect().await;
        let answers: Answers = Box::pin(tokio_stream::iter(all));
        Ok(response.map(|()| answers))
    }
}

fn answer(asked: Asked, mut source: Answers) -> Result<Response<Answers>, Status> {
    let mut guard = Guard::new(&asked);
    let keyed = guard.key.is_some();
    if asked.after() == 0 {
        guard.ended = true;
        return match asked.failure() {
            Some(status) => Err(status),
            None => Ok(asked.response(Box::pin(tokio_stream::empty()))),
        };
    }
    let response = asked.response(());
    let (send, receive) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut guard = guard;
        let mut sent = 0;
        while sent != asked.after() {
            let next = tokio::select! {
                next = source.next() => next,
                () = send.closed() => return,
            };
            match next {
                // tonic ends the requests of a cancelled call as a half-close does; then the answers are dropped, too.
                None if keyed && tokio::time::timeout(CANCEL_FOLLOWS, send.closed()).await.is_ok() => return,
                None => break,
                Some(Err(_)) => return,
                Some(Ok(message)) => {
                    if send.send(Ok(message)).await.is_err() {
                        return;
                    }
                    sent += 1;
                }
            }
        }
        if let Some(status) = asked.failure() {
            let _ = send.send(Err(status)).await;
        }
        guard.ended = true;
    });
    let answers: Answers = Box::pin(ReceiverStream::new(receive));
    Ok(response.map(|()| answers))
}

pub async fn run(port: u16) {
    let stop = Arc::new(Notify::new());
    let service = BytesServer::new(Service { stop: stop.clone() })
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let incoming = tonic::transport::server::TcpIncoming::bind(address).expect("a free port");
    say("listening");
    let stopped = async move { stop.notified().await };
    Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, stopped).await.expect("a server");
}

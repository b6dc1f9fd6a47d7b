//! Makes the calls that the suite asks for, each in a task of its own.
use crate::codec::{data, message};
use crate::lines::{decode, encode, fields, hex, put, say};
use crate::service::bytes_client::BytesClient;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{CompressionEncoding, Streaming};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

pub async fn run(port: u16) {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("an address");
    let channel = endpoint.connect_lazy();
    let mut holds = HashMap::new();
    let mut lines = BufReader::new(stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let words: Vec<String> = line.split(' ').map(str::to_string).collect();
        if words[0] == "go" {
            let hold: &Arc<Semaphore> = &holds[&words[1]];
            hold.add_permits(1);
            continue;
        }
        let hold = Arc::new(Semaphore::new(0));
        holds.insert(words[0].clone(), hold.clone());
        tokio::spawn(make(channel.clone(), words, hold));
    }
}

/// What the task that reads tells the one that sends.
enum Event {
    Message(Vec<u8>),
    End { status: Status, initial: MetadataMap, trailing: MetadataMap },
}

struct Call {
    id: String,
    hold_at: i64,
    cancels: bool,
    hold: Arc<Semaphore>,
    events: mpsc::Receiver<Event>,
    reader: Option<tokio::task::JoinHandle<()>>,
    received: Vec<usize>,
    crc: crc32fast::Hasher,
    end: Option<(Status, MetadataMap, MetadataMap)>,
}

impl Call {
    async fn receive(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        match self.events.recv().await {
            Some(Event::Message(bytes)) => {
                self.received.push(data(&bytes).len());
                self.crc.update(data(&bytes));
                if self.received.len() as i64 == self.hold_at {
                    self.wait().await;
                }
                true
            }
            Some(Event::End { status, initial, trailing }) => {
                self.end = Some((status, initial, trailing));
                false
            }
            None => {
                let status = Status::new(Code::Cancelled, "the reading task was dropped");
                self.end = Some((status, MetadataMap::new(), MetadataMap::new()));
                false
            }
        }
    }

    async fn wait(&mut self) {
        say(&format!("{} held", self.id));
        self.hold.acquire().await.expect("open").forget();
        if self.cancels {
            // What tonic calls cancelling: to drop the call.
            if let Some(reader) = self.reader.take() {
                reader.abort();
                let _ = reader.await;
            }
        }
    }
}

async fn make(channel: Channel, words: Vec<String>, hold: Arc<Semaphore>) {
    let id = words[0].clone();
    let mut asked = HashMap::new();
    let mut metadata = MetadataMap::new();
    for word in &words[2..] {
        let (name, value) = word.split_once('=').expect("NAME=VALUE");
        let value = decode(value);
        if let Some(name) = name.strip_prefix("m.") {
            if let Err(problem) = put(&mut metadata, name, &value) {
                say(&format!("{id} end code=client message={}", encode(problem.as_bytes())));
                return;
            }
        } else {
            asked.insert(name.to_string(), value);
        }
    }
    let mut client = BytesClient::new(channel);
    if asked.contains_key("gzip") {
        client = client
            .send_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Gzip);
    }
    let deadline = asked.get("deadline").map(|ms| Duration::from_millis(ms.parse().expect("milliseconds")));
    let kind = words[1].clone();
    let (requests, stream) = mpsc::channel::<Vec<u8>>(1);
    let (tell, events) = mpsc::channel(16);
    let reader = tokio::spawn(read(client, kind, metadata, deadline, ReceiverStream::new(stream), tell));
    let mut call = Call {
        id: id.clone(),
        hold_at: asked.get("hold").map_or(-1, |at| at.parse().expect("a number")),
        cancels: asked.contains_key("cancel"),
        hold,
        events,
        reader: Some(reader),
        received: Vec::new(),
        crc: crc32fast::Hasher::new(),
        end: None,
    };
    let sizes = asked.get("send").cloned().unwrap_or_default();
    for size in sizes.split(',').filter(|size| !size.is_empty()) {
        if call.end.is_some() || requests.send(message(size.parse().expect("a size"))).await.is_err() {
            break;
        }
        if asked.contains_key("turns") {
            call.receive().await;
        }
    }
    drop(requests);
    if call.hold_at == 0 {
        call.wait().await;
    }
    while call.receive().await {}
    let (status, initial, trailing) = call.end.take().expect("an end");
    let sizes: Vec<String> = call.received.iter().map(usize::to_string).collect();
    let mut line = format!("{id} end code={} message={}", status.code() as i32, encode(status.message().as_bytes()));
    line += &format!(" sizes={} crc={}", sizes.join(","), call.crc.finalize());
    line += &fields("i", &initial);
    line += &fields("t", &trailing);
    if !status.details().is_empty() {
        line += &format!(" t.grpc-status-details-bin={}", hex(status.details()));
    }
    say(&line);
}

/// Makes the call and passes on what comes.
async fn read(
    mut client: BytesClient<Channel>,
    kind: String,
    metadata: MetadataMap,
    deadline: Option<Duration>,
    mut stream: ReceiverStream<Vec<u8>>,
    tell: mpsc::Sender<Event>,
) {
    fn request<T>(body: T, metadata: MetadataMap, deadline: Option<Duration>) -> Request<T> {
        let mut request = Request::new(body);
        *request.metadata_mut() = metadata;
        if let Some(deadline) = deadline {
            request.set_timeout(deadline);
        }
        request
    }
    let answered: Result<Response<Streaming<Vec<u8>>>, Status> = match kind.as_str() {
        "unary" | "client" => {
            let result = if kind == "unary" {
                let body = tokio_stream::StreamExt::next(&mut stream).await.unwrap_or_default();
                client.unary(request(body, metadata, deadline)).await
            } else {
                client.client_stream(request(stream, metadata, deadline)).await
            };
            let end = match result {
                Ok(response) => {
                    let (initial, message, _) = response.into_parts();
                    let _ = tell.send(Event::Message(message)).await;
                    Event::End { status: Status::ok(""), initial, trailing: MetadataMap::new() }
                }
                Err(status) => failed(status, MetadataMap::new()),
            };
            let _ = tell.send(end).await;
            return;
        }
        "server" => {
            let body = tokio_stream::StreamExt::next(&mut stream).await.unwrap_or_default();
            client.server_stream(request(body, metadata, deadline)).await
        }
        _ => client.bidi_stream(request(stream, metadata, deadline)).await,
    };
    let end = match answered {
        Err(status) => failed(status, MetadataMap::new()),
        Ok(response) => {
            let (initial, mut messages, _) = response.into_parts();
            loop {
                match messages.message().await {
                    Ok(Some(message)) => {
                        let _ = tell.send(Event::Message(message)).await;
                    }
                    Ok(None) => {
                        let trailing = messages.trailers().await.ok().flatten().unwrap_or_default();
                        break Event::End { status: Status::ok(""), initial, trailing };
                    }
                    Err(status) => break failed(status, initial),
                }
            }
        }
    };
    let _ = tell.send(end).await;
}

fn failed(status: Status, initial: MetadataMap) -> Event {
    let trailing = status.metadata().clone();
    Event::End { status, initial, trailing }
}

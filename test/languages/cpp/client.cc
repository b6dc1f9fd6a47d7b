// Makes the calls that the suite asks for, each in a thread of its own, with gRPC's blocking stubs.
#include <grpcpp/grpcpp.h>
#include <zlib.h>

#include <condition_variable>
#include <future>
#include <memory>
#include <thread>

#include "bytes.grpc.pb.h"
#include "lines.h"

using languages::Bytes;
using languages::Chunk;

namespace {

class Hold {
 public:
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return open_; });
  }
  void open() {
    std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
};

/** The four kinds of calls, each as what can be done with it. */
class Stream {
 public:
  virtual ~Stream() = default;
  virtual bool send(const Chunk& chunk) = 0;
  virtual void halfClose() = 0;
  virtual bool receive(Chunk* chunk) = 0;
  virtual grpc::Status finish() = 0;
};

class Unary : public Stream {
 public:
  Unary(Bytes::Stub* stub, grpc::ClientContext* context) : stub_(stub), context_(context) {}
  bool send(const Chunk& chunk) override {
    request_ = chunk;
    return true;
  }
  void halfClose() override {
    status_ = std::async(std::launch::async, [this] { return stub_->Unary(context_, request_, &response_); });
  }
  bool receive(Chunk* chunk) override {
    if (got_) return false;
    end_ = status_.get();
    got_ = true;
    *chunk = response_;
    return end_.ok();
  }
  grpc::Status finish() override { return end_; }

 private:
  Bytes::Stub* stub_;
  grpc::ClientContext* context_;
  Chunk request_, response_;
  std::future<grpc::Status> status_;
  grpc::Status end_;
  bool got_ = false;
};

class ClientStream : public Stream {
 public:
  ClientStream(Bytes::Stub* stub, grpc::ClientContext* context) : writer_(stub->ClientStream(context, &response_)) {}
  bool send(const Chunk& chunk) override { return writer_->Write(chunk); }
  void halfClose() override { writer_->WritesDone(); }
  bool receive(Chunk* chunk) override {
    if (got_) return false;
    end_ = writer_->Finish();
    got_ = true;
    *chunk = response_;
    return end_.ok();
  }
  grpc::Status finish() override { return end_; }

 private:
  Chunk response_;
  std::unique_ptr<grpc::ClientWriter<Chunk>> writer_;
  grpc::Status end_;
  bool got_ = false;
};

class ServerStream : public Stream {
 public:
  ServerStream(Bytes::Stub* stub, grpc::ClientContext* context) : stub_(stub), context_(context) {}
  bool send(const Chunk& chunk) override {
    reader_ = stub_->ServerStream(context_, chunk);
    return true;
  }
  void halfClose() override {}
  bool receive(Chunk* chunk) override { return reader_->Read(chunk); }
  grpc::Status finish() override { return reader_->Finish(); }

 private:
  Bytes::Stub* stub_;
  grpc::ClientContext* context_;
  std::unique_ptr<grpc::ClientReader<Chunk>> reader_;
};

class BidiStream : public Stream {
 public:
  BidiStream(Bytes::Stub* stub, grpc::ClientContext* context) : stream_(stub->BidiStream(context)) {}
  bool send(const Chunk& chunk) override { return stream_->Write(chunk); }
  void halfClose() override { stream_->WritesDone(); }
  bool receive(Chunk* chunk) override { return stream_->Read(chunk); }
  grpc::Status finish() override { return stream_->Finish(); }

 private:
  std::unique_ptr<grpc::ClientReaderWriter<Chunk, Chunk>> stream_;
};

std::unique_ptr<Stream> open(const std::string& kind, Bytes::Stub* stub, grpc::ClientContext* context) {
  if (kind == "unary") return std::make_unique<Unary>(stub, context);
  if (kind == "client") return std::make_unique<ClientStream>(stub, context);
  if (kind == "server") return std::make_unique<ServerStream>(stub, context);
  return std::make_unique<BidiStream>(stub, context);
}

std::string fields(const char* prefix, const std::multimap<grpc::string_ref, grpc::string_ref>& metadata) {
  std::string out;
  for (const auto& [nameRef, valueRef] : metadata) {
    std::string name(nameRef.data(), nameRef.size()), value(valueRef.data(), valueRef.size());
    out += std::string(" ") + prefix + "." + name + "=" + (isBinary(name) ? hex(value) : encode(value));
  }
  return out;
}

void make(Bytes::Stub* stub, const std::vector<std::string>& words, Hold* hold) {
  const std::string& id = words[0];
  grpc::ClientContext context;
  std::map<std::string, std::string> asked;
  for (size_t i = 2; i < words.size(); i++) {
    size_t at = words[i].find('=');
    std::string name = words[i].substr(0, at), value = decode(words[i].substr(at + 1));
    if (name.compare(0, 2, "m.") != 0) asked[name] = value;
    else context.AddMetadata(name.substr(2), isBinary(name) ? unhex(value) : value);
  }
  if (asked.count("deadline")) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(std::stoi(asked["deadline"])));
  }
  if (asked.count("gzip")) context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  int holdAt = asked.count("hold") ? std::stoi(asked["hold"]) : -1;
  auto stream = open(words[1], stub, &context);
  std::vector<std::string> sizes;
  unsigned long crc = crc32(0, nullptr, 0);
  bool over = false;

  auto pause = [&] {
    say(id + " held");
    hold->wait();
    if (!asked.count("cancel")) return;
    over = true;
    context.TryCancel();
  };
  auto receive = [&] {
    Chunk chunk;
    if (!stream->receive(&chunk)) {
      over = true;
      return false;
    }
    sizes.push_back(std::to_string(chunk.data().size()));
    crc = crc32(crc, reinterpret_cast<const Bytef*>(chunk.data().data()), chunk.data().size());
    if (static_cast<int>(sizes.size()) == holdAt) pause();
    return true;
  };

  for (const std::string& size : split(asked["send"], ',')) {
    Chunk chunk;
    chunk.set_data(data(std::stoul(size)));
    if (over || !stream->send(chunk)) break;
    if (asked.count("turns")) receive();
  }
  stream->halfClose();
  if (holdAt == 0) pause();
  while (receive()) continue;
  grpc::Status status = stream->finish();
  std::string line = id + " end code=" + std::to_string(status.error_code()) + " message=" + encode(status.error_message());
  line += " sizes=";
  for (size_t i = 0; i < sizes.size(); i++) line += (i == 0 ? "" : ",") + sizes[i];
  line += " crc=" + std::to_string(crc) + fields("i", context.GetServerInitialMetadata());
  say(line + fields("t", context.GetServerTrailingMetadata()));
}

}  // namespace

int runClient(const std::string& port) {
  auto channel = grpc::CreateChannel("127.0.0.1:" + port, grpc::InsecureChannelCredentials());
  auto stub = Bytes::NewStub(channel);
  std::map<std::string, std::unique_ptr<Hold>> holds;
  for (std::string line; std::getline(std::cin, line);) {
    std::vector<std::string> words = split(line, ' ');
    if (words[0] == "go") {
      holds[words[1]]->open();
      continue;
    }
    Hold* hold = (holds[words[0]] = std::make_unique<Hold>()).get();
    std::thread([&stub, words, hold] { make(stub.get(), words, hold); }).detach();
  }
  _exit(0);
}

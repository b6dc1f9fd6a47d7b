// Answers as the request's metadata asks; see the suite's README.
#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <thread>

#include "bytes.grpc.pb.h"
#include "lines.h"

using languages::Bytes;
using languages::Chunk;

namespace {

std::mutex stopMutex;
std::condition_variable stopAsked;
bool stopping = false;

/** What the metadata asks for, and what every kind of call does with it. */
class Run {
 public:
  explicit Run(grpc::ServerContext* context) : context_(context) {
    if (has("do-key")) say(text("do-key") + " started");
    for (const auto& [nameRef, valueRef] : context->client_metadata()) {
      std::string name(nameRef.data(), nameRef.size()), value(valueRef.data(), valueRef.size());
      if (name.compare(0, 2, "e-") != 0) continue;
      if (after() != 0) context->AddInitialMetadata(name, value);
      context->AddTrailingMetadata(name, value);
    }
    if (has("do-deadline")) context->AddTrailingMetadata("deadline", deadline());
    if (has("do-gzip")) context->set_compression_algorithm(GRPC_COMPRESS_GZIP);
    while (has("do-hang") && !context->IsCancelled()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }

  bool has(const std::string& name) const { return context_->client_metadata().count(name) > 0; }

  std::string text(const std::string& name) const {
    auto found = context_->client_metadata().find(name);
    return found == context_->client_metadata().end() ? "" : std::string(found->second.data(), found->second.size());
  }

  int number(const std::string& name, int otherwise) const { return has(name) ? std::stoi(text(name)) : otherwise; }

  int after() const { return number("do-after", number("do-code", 0) == 0 ? -1 : 0); }

  grpc::Status end() {
    if (has("do-key") && context_->IsCancelled()) say(text("do-key") + " cancelled");
    if (has("do-stop")) {
      std::lock_guard<std::mutex> lock(stopMutex);
      stopping = true;
      stopAsked.notify_all();
    }
    int code = number("do-code", 0);
    if (code == 0) return grpc::Status::OK;
    return grpc::Status(static_cast<grpc::StatusCode>(code), decode(text("do-message")), text("do-details-bin"));
  }

 private:
  std::string deadline() const {
    auto left = context_->deadline() - std::chrono::system_clock::now();
    auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(left).count();
    return ms > 365LL * 24 * 3600 * 1000 ? "none" : std::to_string(ms);
  }

  grpc::ServerContext* context_;
};

class Service final : public Bytes::Service {
  grpc::Status Unary(grpc::ServerContext* context, const Chunk* request, Chunk* response) override {
    Run run(context);
    *response = *request;
    return run.end();
  }

  grpc::Status ClientStream(grpc::ServerContext* context, grpc::ServerReader<Chunk>* reader, Chunk* response) override {
    Run run(context);
    Chunk chunk;
    size_t total = 0;
    for (int received = 0; received != run.after() && reader->Read(&chunk); received++) total += chunk.data().size();
    response->set_data(data(total));
    return run.end();
  }

  grpc::Status ServerStream(grpc::ServerContext* context, const Chunk* request, grpc::ServerWriter<Chunk>* writer) override {
    Run run(context);
    int count = run.number("do-count", 0);
    for (int sent = 0; sent != run.after() && sent < count && writer->Write(*request); sent++) continue;
    return run.end();
  }

  grpc::Status BidiStream(grpc::ServerContext* context, grpc::ServerReaderWriter<Chunk, Chunk>* stream) override {
    Run run(context);
    Chunk chunk;
    std::vector<Chunk> late;
    for (int sent = 0; sent != run.after() && stream->Read(&chunk); sent++) {
      if (run.has("do-late")) late.push_back(chunk);
      else stream->Write(chunk);
    }
    for (const Chunk& one : late) stream->Write(one);
    return run.end();
  }
};

}  // namespace

int runServer(const std::string& port) {
  Service service;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:" + port, grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  auto server = builder.BuildAndStart();
  if (!server) return 1;
  say("listening");
  std::unique_lock<std::mutex> lock(stopMutex);
  stopAsked.wait(lock, [] { return stopping; });
  server->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(60));
  return 0;
}

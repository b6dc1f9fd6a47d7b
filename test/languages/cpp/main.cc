// C++ on gRPC's core, in either role: `languages client|server PORT`.
#include <string>

int runClient(const std::string& port);
int runServer(const std::string& port);

int main(int, char** args) { return args[1] == std::string("client") ? runClient(args[2]) : runServer(args[2]); }

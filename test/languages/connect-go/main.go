// connect-go with gRPC's protocol, in either role: languages client|server PORT.
package main

import (
	"net/http"
	"os"
)

// HTTP/2 without TLS, as gRPC's own implementations speak it.
var (
	protocols  http.Protocols
	httpClient *http.Client
)

func main() {
	protocols.SetUnencryptedHTTP2(true)
	httpClient = &http.Client{Transport: &http.Transport{Protocols: &protocols}}
	if os.Args[1] == "client" {
		runClient(os.Args[2])
	} else {
		runServer(os.Args[2])
	}
}

package main

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
)

var sayMutex sync.Mutex

func say(line string) {
	sayMutex.Lock()
	defer sayMutex.Unlock()
	fmt.Println(line)
}

func encode(text string) string {
	return strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
}

func decode(text string) string {
	decoded, err := url.PathUnescape(text)
	if err != nil {
		panic(err)
	}
	return decoded
}

// fields gives each field as ` PREFIX.NAME=VALUE`.
func fields(prefix string, header http.Header) string {
	names := make([]string, 0, len(header))
	for name := range header {
		names = append(names, name)
	}
	sort.Strings(names)
	var out strings.Builder
	for _, name := range names {
		for _, value := range header[name] {
			name := strings.ToLower(name)
			if strings.HasSuffix(name, "-bin") {
				bytes, _ := connect.DecodeBinaryHeader(value)
				fmt.Fprintf(&out, " %s.%s=%s", prefix, name, hex.EncodeToString(bytes))
			} else {
				fmt.Fprintf(&out, " %s.%s=%s", prefix, name, encode(value))
			}
		}
	}
	return out.String()
}

// raw is a message as its bytes: message Chunk { bytes data = 1; }.
type raw struct{ bytes []byte }

type codec struct{}

func (codec) Name() string { return "proto" }

// Marshal gives bytes of their own: connect-go writes into them later.
func (codec) Marshal(message any) ([]byte, error) {
	if status, found := message.(proto.Message); found {
		return proto.Marshal(status)
	}
	return append([]byte(nil), message.(*raw).bytes...), nil
}

func (codec) Unmarshal(bytes []byte, message any) error {
	if status, found := message.(proto.Message); found {
		return proto.Unmarshal(bytes, status)
	}
	message.(*raw).bytes = append([]byte(nil), bytes...)
	return nil
}

// chunk makes a message whose data has this size.
func chunk(size int) *raw {
	if size == 0 {
		return &raw{}
	}
	bytes := []byte{0x0a}
	for rest := size; ; rest >>= 7 {
		if rest < 128 {
			bytes = append(bytes, byte(rest))
			break
		}
		bytes = append(bytes, byte(rest&0x7f|0x80))
	}
	for i := range size {
		bytes = append(bytes, byte(i*31+(i>>8)))
	}
	return &raw{bytes}
}

func (message *raw) data() []byte {
	if len(message.bytes) == 0 {
		return nil
	}
	at := 1
	for message.bytes[at]&0x80 != 0 {
		at++
	}
	return message.bytes[at+1:]
}

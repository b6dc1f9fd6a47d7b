package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
)

// stream is what can be done with each kind of call.
type stream interface {
	send(*raw) error
	halfClose()
	// receive gives nil at the end.
	receive() *raw
	end() (initial, trailing http.Header, err error)
}

// single is a call with one answer, which is made when its request is whole.
type single struct {
	done     chan struct{}
	call     func() (*connect.Response[raw], error)
	onSend   func(*raw) error
	response *connect.Response[raw]
	err      error
	got      bool
}

func (s *single) send(message *raw) error { return s.onSend(message) }

func (s *single) halfClose() {
	go func() {
		s.response, s.err = s.call()
		close(s.done)
	}()
}

func (s *single) receive() *raw {
	<-s.done
	if s.got || s.err != nil {
		return nil
	}
	s.got = true
	return s.response.Msg
}

func (s *single) end() (http.Header, http.Header, error) {
	if s.err != nil {
		return nil, nil, s.err
	}
	return s.response.Header(), s.response.Trailer(), nil
}

type serverStream struct {
	open   func(*raw) (*connect.ServerStreamForClient[raw], error)
	stream *connect.ServerStreamForClient[raw]
	err    error
}

func (s *serverStream) send(message *raw) error {
	s.stream, s.err = s.open(message)
	return s.err
}

func (s *serverStream) halfClose() {}

func (s *serverStream) receive() *raw {
	if s.err != nil || !s.stream.Receive() {
		return nil
	}
	return s.stream.Msg()
}

func (s *serverStream) end() (http.Header, http.Header, error) {
	if s.err != nil {
		return nil, nil, s.err
	}
	return s.stream.ResponseHeader(), s.stream.ResponseTrailer(), s.stream.Err()
}

type bidiStream struct {
	stream *connect.BidiStreamForClient[raw, raw]
	err    error
}

func (s *bidiStream) send(message *raw) error { return s.stream.Send(message) }
func (s *bidiStream) halfClose()              { _ = s.stream.CloseRequest() }

func (s *bidiStream) receive() *raw {
	message, err := s.stream.Receive()
	if err != nil {
		s.err = err
		return nil
	}
	return message
}

func (s *bidiStream) end() (http.Header, http.Header, error) {
	if isEnd(s.err) {
		s.err = nil
	}
	return s.stream.ResponseHeader(), s.stream.ResponseTrailer(), s.err
}

func open(ctx context.Context, base, kind string, header http.Header, options ...connect.ClientOption) stream {
	client := func(name string) *connect.Client[raw, raw] {
		return connect.NewClient[raw, raw](httpClient, base+service+name, options...)
	}
	switch kind {
	case "unary":
		var request *connect.Request[raw]
		return &single{
			done: make(chan struct{}),
			onSend: func(message *raw) error {
				request = connect.NewRequest(message)
				for name, values := range header {
					request.Header()[name] = values
				}
				return nil
			},
			call: func() (*connect.Response[raw], error) { return client("Unary").CallUnary(ctx, request) },
		}
	case "client":
		call := client("ClientStream").CallClientStream(ctx)
		for name, values := range header {
			call.RequestHeader()[name] = values
		}
		return &single{done: make(chan struct{}), onSend: call.Send, call: call.CloseAndReceive}
	case "server":
		return &serverStream{open: func(message *raw) (*connect.ServerStreamForClient[raw], error) {
			request := connect.NewRequest(message)
			for name, values := range header {
				request.Header()[name] = values
			}
			return client("ServerStream").CallServerStream(ctx, request)
		}}
	default:
		call := client("BidiStream").CallBidiStream(ctx)
		for name, values := range header {
			call.RequestHeader()[name] = values
		}
		return &bidiStream{stream: call}
	}
}

func makeCall(base string, words []string, goOn <-chan struct{}) {
	id, kind := words[0], words[1]
	asked, header := map[string]string{}, http.Header{}
	for _, word := range words[2:] {
		name, value, _ := strings.Cut(word, "=")
		value = decode(value)
		if name, found := strings.CutPrefix(name, "m."); !found {
			asked[name] = value
		} else if strings.HasSuffix(name, "-bin") {
			bytes, _ := hex.DecodeString(value)
			header.Add(name, connect.EncodeBinaryHeader(bytes))
		} else {
			header.Add(name, value)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	if ms, found := asked["deadline"]; found {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(number(ms, 0))*time.Millisecond)
	}
	defer cancel()
	options := []connect.ClientOption{connect.WithGRPC(), connect.WithCodec(codec{})}
	if asked["gzip"] != "" {
		options = append(options, connect.WithSendGzip())
	}
	call := open(ctx, base, kind, header, options...)
	over := false
	var sizes []string
	crc := crc32.NewIEEE()
	holdAt := number(asked["hold"], -1)
	hold := func() {
		say(id + " held")
		<-goOn
		if asked["cancel"] != "" {
			over = true
			cancel()
		}
	}
	receive := func() bool {
		message := call.receive()
		if message == nil {
			over = true
			return false
		}
		sizes = append(sizes, strconv.Itoa(len(message.data())))
		crc.Write(message.data())
		if len(sizes) == holdAt {
			hold()
		}
		return true
	}
	for size := range strings.SplitSeq(asked["send"], ",") {
		if size == "" || over || call.send(chunk(number(size, 0))) != nil {
			break
		}
		if asked["turns"] != "" {
			receive()
		}
	}
	call.halfClose()
	if holdAt == 0 {
		hold()
	}
	for receive() {
	}
	initial, trailing, err := call.end()
	code, text := 0, ""
	if err != nil {
		code, text = int(connect.CodeOf(err)), err.Error()
		var failure *connect.Error
		if errors.As(err, &failure) {
			text = failure.Message()
			if len(trailing) == 0 {
				trailing = failure.Meta()
			}
			for _, detail := range failure.Details() {
				trailing.Add("details-bin", connect.EncodeBinaryHeader(detail.Bytes()))
			}
		}
	}
	say(fmt.Sprintf("%s end code=%d message=%s sizes=%s crc=%d%s%s", id, code, encode(text),
		strings.Join(sizes, ","), crc.Sum32(), fields("i", initial), fields("t", trailing)))
}

func number(text string, otherwise int) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		return otherwise
	}
	return value
}

func runClient(port string) {
	holds := map[string]chan struct{}{}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		words := strings.Split(lines.Text(), " ")
		if words[0] == "go" {
			close(holds[words[1]])
			continue
		}
		holds[words[0]] = make(chan struct{})
		go makeCall("http://127.0.0.1:"+port, words, holds[words[0]])
	}
}

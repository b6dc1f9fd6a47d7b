package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const service = "/languages.Bytes/"

var stop = make(chan struct{}, 1)

// run is what the metadata of a call asks for.
type run struct {
	ctx             context.Context
	asked           http.Header
	code, after     int
	initial, answer http.Header
}

func begin(ctx context.Context, asked http.Header) *run {
	r := &run{ctx: ctx, asked: asked, initial: http.Header{}, answer: http.Header{}}
	r.code = number(asked.Get("do-code"), 0)
	r.after = -1
	if r.code != 0 {
		r.after = 0
	}
	r.after = number(asked.Get("do-after"), r.after)
	if key := asked.Get("do-key"); key != "" {
		say(key + " started")
	}
	for name, values := range asked {
		if strings.HasPrefix(name, "E-") {
			r.answer[name] = values
			if r.after != 0 {
				r.initial[name] = values
			}
		}
	}
	if asked.Get("do-deadline") != "" {
		left := "none"
		if deadline, found := ctx.Deadline(); found {
			left = strconv.FormatInt(time.Until(deadline).Milliseconds(), 10)
		}
		r.answer.Set("deadline", left)
	}
	if asked.Get("do-hang") != "" {
		<-ctx.Done()
	}
	return r
}

// end gives the error that is asked for, or nil.
func (r *run) end() error {
	if key := r.asked.Get("do-key"); key != "" && r.ctx.Err() != nil {
		say(key + " cancelled")
	}
	if r.asked.Get("do-stop") != "" {
		stop <- struct{}{}
	}
	if r.ctx.Err() != nil {
		return r.ctx.Err()
	}
	if r.code == 0 {
		return nil
	}
	failure := connect.NewError(connect.Code(r.code), errors.New(decode(r.asked.Get("do-message"))))
	put(failure.Meta(), r.answer)
	if details := r.asked.Get("do-details-bin"); details != "" {
		detail, err := connect.NewErrorDetail(wrapperspb.String(details))
		if err != nil {
			return err
		}
		failure.AddDetail(detail)
	}
	return failure
}

func put(to, from http.Header) {
	for name, values := range from {
		to[name] = values
	}
}

func (r *run) respond(message *raw) (*connect.Response[raw], error) {
	if err := r.end(); err != nil {
		return nil, err
	}
	response := connect.NewResponse(message)
	put(response.Header(), r.initial)
	put(response.Trailer(), r.answer)
	return response, nil
}

func unary(ctx context.Context, request *connect.Request[raw]) (*connect.Response[raw], error) {
	return begin(ctx, request.Header()).respond(request.Msg)
}

func clientStream(ctx context.Context, stream *connect.ClientStream[raw]) (*connect.Response[raw], error) {
	r := begin(ctx, stream.RequestHeader())
	total := 0
	for received := 0; received != r.after && stream.Receive(); received++ {
		total += len(stream.Msg().data())
	}
	return r.respond(chunk(total))
}

func streamAnswers(ctx context.Context, request *connect.Request[raw], stream *connect.ServerStream[raw]) error {
	r := begin(ctx, request.Header())
	put(stream.ResponseHeader(), r.initial)
	count := number(r.asked.Get("do-count"), 0)
	for sent := 0; sent != r.after && sent < count; sent++ {
		if err := stream.Send(request.Msg); err != nil {
			break
		}
	}
	if r.code == 0 {
		put(stream.ResponseTrailer(), r.answer)
	}
	return r.end()
}

func echo(ctx context.Context, stream *connect.BidiStream[raw, raw]) error {
	r := begin(ctx, stream.RequestHeader())
	put(stream.ResponseHeader(), r.initial)
	var late []*raw
	for sent := 0; sent != r.after; sent++ {
		message, err := stream.Receive()
		if err != nil {
			break
		}
		if r.asked.Get("do-late") != "" {
			late = append(late, message)
		} else if stream.Send(message) != nil {
			break
		}
	}
	for _, message := range late {
		_ = stream.Send(message)
	}
	if r.code == 0 {
		put(stream.ResponseTrailer(), r.answer)
	}
	return r.end()
}

func isEnd(err error) bool { return err == nil || errors.Is(err, io.EOF) }

func runServer(port string) {
	mux := http.NewServeMux()
	option := connect.WithCodec(codec{})
	mux.Handle(service+"Unary", connect.NewUnaryHandler(service+"Unary", unary, option))
	mux.Handle(service+"ClientStream", connect.NewClientStreamHandler(service+"ClientStream", clientStream, option))
	mux.Handle(service+"ServerStream", connect.NewServerStreamHandler(service+"ServerStream", streamAnswers, option))
	mux.Handle(service+"BidiStream", connect.NewBidiStreamHandler(service+"BidiStream", echo, option))
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		panic(err)
	}
	server := &http.Server{Handler: mux, Protocols: &protocols}
	go func() { _ = server.Serve(listener) }()
	say("listening")
	<-stop
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_ = server.Shutdown(ctx)
}

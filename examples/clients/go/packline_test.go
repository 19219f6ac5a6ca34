package packline

// Tests against `deno task serve`: PACKLINE=127.0.0.1:1235 go test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var background = context.Background()

func connect(t *testing.T) *Client {
	address := os.Getenv("PACKLINE")
	if address == "" {
		address = "127.0.0.1:1235"
	}
	client := New(address, Options{})
	t.Cleanup(client.Close)
	return client
}

func frame(message Map) []byte {
	payload, _ := encode(message, 0)
	return append(append([]byte{32, byte(len(payload) + 32)}, payload...), '\n')
}

// clientOf is a client of a server that says this to each message, and hangs up instead of nil.
func clientOf(t *testing.T, answer func(Map) []byte) *Client {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			socket, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer socket.Close()
				for part := []byte{}; part != nil; {
					message, err := readMessage(socket)
					if err != nil {
						return
					}
					part = answer(message)
					_, _ = socket.Write(part)
				}
			}()
		}
	}()
	client := New(listener.Addr().String(), Options{Timeout: 5 * time.Second, Alive: time.Second})
	t.Cleanup(client.Close)
	return client
}

func expectCode(t *testing.T, err error, code string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("%v, and not %s", err, code)
	}
	return e
}

func expectCall(t *testing.T, client *Client, request Request, right any) {
	t.Helper()
	if result, err := client.Call(background, request); err != nil || !reflect.DeepEqual(result, right) {
		t.Fatalf("%v, %v, and not %v", result, err, right)
	}
}

// expectEnd asks until no call of a command runs on the server: its handlers end a moment after they are told.
func expectEnd(t *testing.T, client *Client, command string) {
	t.Helper()
	for {
		stats, err := client.Call(background, Request{Command: "STATS"})
		if err != nil {
			t.Fatal(err)
		}
		if stats.(Map)["commands"].(Map)[command].(Map)["inFlight"] == int64(0) {
			return
		}
	}
}

// stacks are those of all goroutines.
func stacks() string {
	text := make([]byte, 1<<20)
	return string(text[:runtime.Stack(text, true)])
}

// nested is so many containers in one another.
func nested(depth int) []any {
	if depth == 1 {
		return []any{}
	}
	return []any{nested(depth - 1)}
}

func read(stream *Stream) (items []any, err error) {
	for {
		item, err := stream.Next()
		if err != nil {
			return items, err
		}
		items = append(items, item)
	}
}

func TestValuesComeBack(t *testing.T) {
	client := connect(t)
	for _, value := range []any{
		nil, true, int64(-1), int64(-200), int64(-40_000), int64(-1 << 31), int64(70_000), 1.5, "é", []byte("\n\r"),
		[]any{int64(1), []any{}}, Map{"a": Map{"b": []byte{}}}, strings.Repeat("x", 100_000), nested(63),
	} {
		expectCall(t, client, Request{Command: "ECHO", Params: Map{"data": value}}, value)
	}
	expectCall(t, client, Request{Command: "ECHO", Params: Map{"data": map[string]uint8{"a": 200}}}, Map{"a": int64(200)})
}

func TestAQuickCallOvertakesASlowOne(t *testing.T) {
	client := connect(t)
	ctx, cancel := context.WithCancel(background)
	slow := make(chan error)
	go func() {
		_, err := client.Call(ctx, Request{Command: "DELAY", Params: Map{"sleep": 60}})
		slow <- err
	}()
	expectCall(t, client, Request{Command: "PING"}, "PONG")
	cancel()
	err := <-slow
	expectCode(t, err, "CANCELLED")
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	expectEnd(t, client, "DELAY")
}

func TestAFailureHasItsCodeItsTextAndItsData(t *testing.T) {
	client := connect(t)
	_, err := client.Call(background, Request{Command: "TICK", Params: Map{"count": -1}})
	if e := expectCode(t, err, "INVALID_PARAMS"); e.Message == "" || e.Data == nil || e.Retryable {
		t.Fatalf("%#v", e)
	}
	_, err = client.Call(background, Request{Command: "NO_SUCH_COMMAND"})
	expectCode(t, err, "CMD_NOT_FOUND")
}

func TestACallThatIsOutOfTimeFails(t *testing.T) {
	client := connect(t)
	ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
	defer cancel()
	request := Request{Command: "DELAY", Params: Map{"sleep": 60}}
	for _, wasSent := range []bool{true, false} {
		_, err := client.Call(ctx, request)
		if e := expectCode(t, err, "TIMEOUT"); e.Retryable == wasSent || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%#v", e)
		}
		<-ctx.Done()
	}
}

func TestWhatAServerWouldRefuseIsNotSent(t *testing.T) {
	client := connect(t)
	for _, params := range []Map{
		{"ttl": 1}, {"$a": 1}, {"a": struct{}{}}, {"a": map[int]int{1: 1}}, {"a": "\xff"},
		{"a": strings.Repeat("x", 2_000_000)}, {"a": nested(64)},
	} {
		_, err := client.Call(background, Request{Command: "ECHO", Params: params})
		expectCode(t, err, "BAD_REQUEST")
	}
}

func TestAStreamIsReadToItsEnd(t *testing.T) {
	stream, err := connect(t).Stream(background, Request{Command: "TICK", Params: Map{"count": 100, "interval": 0}})
	if err != nil {
		t.Fatal(err)
	}
	if items, err := read(stream); len(items) != 100 || items[99] != int64(100) || err != io.EOF {
		t.Fatal(items, err)
	}
	if stream.Result() != int64(100) {
		t.Fatal(stream.Result())
	}
}

func TestAStreamThatIsLeftIsCancelled(t *testing.T) {
	client := connect(t)
	ctx, cancel := context.WithCancel(background)
	stream, err := client.Stream(ctx, Request{Command: "TICK", Params: Map{"interval": 0}})
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 20; i++ {
		if _, err := stream.Next(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	_, err = read(stream) // what had come before
	expectCode(t, err, "CANCELLED")
	expectEnd(t, client, "TICK")
}

func TestItemsGoUpAndBothWays(t *testing.T) {
	client := connect(t)
	left := 50
	chunks := func(context.Context) (any, error) {
		if left == 0 {
			return nil, io.EOF
		}
		left--
		return make([]byte, 1000), nil
	}
	expectCall(t, client, Request{Command: "TALLY", Items: chunks}, Map{"items": int64(50), "bytes": int64(50_000)})
	expectCall(t, client, Request{Command: "TALLY", Items: ItemsOf[any]()}, Map{"items": int64(0), "bytes": int64(0)})
	stream, err := client.Stream(background, Request{Command: "ECHO", Items: ItemsOf("a", "b", "c")})
	if err != nil {
		t.Fatal(err)
	}
	if items, err := read(stream); !reflect.DeepEqual(items, []any{"a", "b", "c"}) || err != io.EOF {
		t.Fatal(items, err)
	}
}

func TestAnUploadThatBreaksIsNeverAWholeOne(t *testing.T) {
	client := connect(t)
	_, err := client.Call(background, Request{Command: "TALLY", Items: func(context.Context) (any, error) {
		return nil, io.ErrUnexpectedEOF
	}})
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	expectCall(t, client, Request{Command: "PING"}, "PONG")
}

func TestCallAndStreamTellEachOtherApart(t *testing.T) {
	client := connect(t)
	_, err := client.Call(background, Request{Command: "TICK", Params: Map{"interval": 0}})
	expectCode(t, err, "BAD_REPLY")
	stream, err := client.Stream(background, Request{Command: "ECHO", Params: Map{"data": 1}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Next()
	expectCode(t, err, "BAD_REPLY")
}

func TestALostConnectionSaysSoAndTheNextCallDialsAnew(t *testing.T) {
	var dials atomic.Int32
	client := clientOf(t, func(message Map) []byte {
		switch message["cmd"] {
		case "DELAY":
			return nil
		case "PING":
			return frame(Map{"seq": message["seq"], "res": "PONG"})
		}
		dials.Add(1)
		return []byte{}
	})
	_, err := client.Call(background, Request{Command: "DELAY", Params: Map{"sleep": 1}})
	if e := expectCode(t, err, "CONNECTION_LOST"); e.Retryable {
		t.Fatalf("%#v", e)
	}
	expectCall(t, client, Request{Command: "PING"}, "PONG")
	if dials.Load() != 2 {
		t.Fatal(dials.Load(), "connections")
	}
}

func TestTheLimitOfTheCallerHasOneCode(t *testing.T) {
	client := clientOf(t, func(message Map) []byte {
		if message["cmd"] == "X" {
			return frame(Map{"seq": message["seq"], "err": "DEADLINE_EXCEEDED"})
		}
		return []byte{}
	})
	_, err := client.Call(background, Request{Command: "X"})
	expectCode(t, err, "DEADLINE_EXCEEDED")
	for i := 0; i < 10; i++ {
		ctx, cancel := context.WithTimeout(background, 10*time.Millisecond)
		_, err := client.Call(ctx, Request{Command: "X"})
		if expectCode(t, err, "TIMEOUT"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		cancel()
	}
}

func TestAStreamThatWasReadIsNotSentAgain(t *testing.T) {
	client := clientOf(t, func(message Map) []byte {
		if message["cmd"] == "X" {
			return frame(Map{"seq": message["seq"], "err": "OVERLOADED"})
		}
		return []byte{}
	})
	for _, items := range []Items{nil, ItemsOf("a", "b")} {
		_, err := client.Call(background, Request{Command: "X", Items: items})
		if e := expectCode(t, err, "OVERLOADED"); e.Retryable != (items == nil) {
			t.Fatalf("%#v", e)
		}
	}
}

func TestAStreamThatHasBegunIsNotSentAgain(t *testing.T) {
	client := clientOf(t, func(message Map) []byte {
		if message["cmd"] != "X" {
			return []byte{}
		}
		seq := message["seq"]
		return append(frame(Map{"seq": seq, "res": 1, "more": true}), frame(Map{"seq": seq, "err": "OVERLOADED"})...)
	})
	stream, err := client.Stream(background, Request{Command: "X"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Next(); err != nil {
		t.Fatal(err)
	}
	_, err = stream.Next()
	if e := expectCode(t, err, "OVERLOADED"); e.Retryable {
		t.Fatalf("%#v", e)
	}
}

func TestOnlyANumberGrantsItemsOrTellsHowLongToWait(t *testing.T) {
	odd := []any{"5", true, nil, 0, -3, 0.5, math.Inf(1), math.Inf(-1), math.NaN()}
	var received, asked int
	client := clientOf(t, func(message Map) (answer []byte) {
		seq := message["seq"]
		if _, isItem := message["item"]; isItem {
			received++
			for _, credit := range append(odd, 1.0) {
				answer = append(answer, frame(Map{"seq": seq, "credit": credit})...)
			}
			if received == 2 {
				return frame(Map{"seq": seq, "res": nil})
			}
		} else if message["cmd"] == "ASK" {
			asked++
			return frame(Map{"seq": seq, "err": "BUSY", "$after": odd[asked-1]})
		}
		return append(answer, frame(Map{"x": 1})...)
	})
	left := 1000
	items := func(context.Context) (any, error) {
		left--
		return left, nil
	}
	expectCall(t, client, Request{Command: "TAKE", Items: items}, nil)
	for _, after := range odd {
		_, err := client.Call(background, Request{Command: "ASK"})
		if e := expectCode(t, err, "BUSY"); e.After != 0 && after != 0.5 {
			t.Fatal(e.After, after)
		}
	}
	if received != 2 {
		t.Fatal(received, "items")
	}
}

func TestALargeGrantOrAdviceIsLarge(t *testing.T) {
	for _, large := range []any{1e300, int64(math.MaxInt64)} {
		received := 0
		client := clientOf(t, func(message Map) []byte {
			seq := message["seq"]
			if _, isItem := message["item"]; isItem {
				received++
				return frame(Map{"seq": seq, "credit": large})
			}
			if message["end"] == true {
				return frame(Map{"seq": seq, "err": "BUSY", "$after": large})
			}
			return frame(Map{"x": 1})
		})
		_, err := client.Call(background, Request{Command: "TAKE", Items: ItemsOf(1, 2, 3)})
		if e := expectCode(t, err, "BUSY"); e.After < time.Hour || received != 3 {
			t.Fatal(e.After, received)
		}
	}
}

// refusing is a connection that the server has refused, with its reason, before the first request is written to it.
type refusing struct {
	net.Conn
	reason    *bytes.Reader
	isWritten chan bool
}

func (r refusing) Write(frames []byte) (int, error) {
	if !bytes.Contains(frames, []byte("ASK")) {
		return len(frames), nil
	}
	close(r.isWritten)
	return 0, syscall.EPIPE
}

func (r refusing) Read(into []byte) (int, error) {
	<-r.isWritten
	return r.reason.Read(into)
}

func (r refusing) Close() error { return nil }

func TestAWriteThatFailsDoesNotHideWhatTheServerHasSaid(t *testing.T) {
	for i := 0; i < 20; i++ {
		client := New("127.0.0.1:1", Options{})
		defer client.Close()
		client.mu.Lock()
		reason := bytes.NewReader(frame(Map{"err": "OVERLOADED"}))
		client.connections[newConnection(client, refusing{nil, reason, make(chan bool)})] = true
		client.mu.Unlock()
		_, err := client.Call(background, Request{Command: "ASK"})
		if e := expectCode(t, err, "OVERLOADED"); !e.Retryable {
			t.Fatalf("%#v", e)
		}
	}
}

func TestAConnectionThatEndedWhileTheProcessStoodStillGetsNoCall(t *testing.T) {
	hungUp := make(chan bool)
	client := clientOf(t, func(message Map) []byte {
		if message["cmd"] == "BYE" {
			defer close(hungUp)
			return nil
		}
		return frame(Map{"seq": message["seq"], "res": "PONG", "x": 1})
	})
	expectCall(t, client, Request{Command: "PING"}, "PONG")
	client.mu.Lock()
	defer client.mu.Unlock()
	for old := range client.connections {
		old.hasRested = true
		_, _ = old.socket.Write(frame(Map{"cmd": "BYE", "seq": 0}))
		<-hungUp
		for isBlocked := false; !isBlocked; runtime.Gosched() { // The reader has the end, and cannot tell it.
			for _, stack := range strings.Split(stacks(), "\n\n") {
				isBlocked = isBlocked || strings.Contains(stack, "heard.Read") && strings.Contains(stack, "Mutex")
			}
		}
		if next, err := client.ready(background); err != nil || next == old {
			t.Fatal(next, err)
		}
	}
}

func TestAReplyToNoNumberIsNoReply(t *testing.T) {
	client := clientOf(t, func(message Map) []byte {
		if message["cmd"] == "X" {
			seq := message["seq"]
			return append(frame(Map{"seq": number(seq) + 0.5, "res": 1}), frame(Map{"seq": seq, "res": 2})...)
		}
		return []byte{}
	})
	expectCall(t, client, Request{Command: "X"}, int64(2))
}

func TestBytesThatNeverCompleteAReplyAreSilence(t *testing.T) {
	client := clientOf(t, func(message Map) []byte {
		switch message["cmd"] {
		case "X":
			return []byte("\x1f\x1f\x00\x10\x00\x00")
		case int64(1): // a PING
			return []byte("\x81")
		}
		return []byte{}
	})
	client.patience = 300 * time.Millisecond
	waits := make(chan error)
	go func() {
		_, err := client.Call(background, Request{Command: "WAIT"})
		waits <- err
	}()
	ctx, cancel := context.WithTimeout(background, 50*time.Millisecond)
	defer cancel()
	_, err := client.Call(ctx, Request{Command: "X"})
	expectCode(t, err, "TIMEOUT")
	expectCode(t, <-waits, "CONNECTION_LOST")
}

func TestAnOddOptionOrParameterIsNoFailure(t *testing.T) {
	for _, alive := range []time.Duration{time.Millisecond, 1000 * time.Hour} {
		client := New(connect(t).address, Options{Alive: alive})
		defer client.Close()
		expectCall(t, client, Request{Command: "ECHO", Params: Map{"data": 1, "cmd seq": 2}}, int64(1))
	}
}

func TestBinaryValuesShareNoMemory(t *testing.T) {
	values, err := decode([]byte("\x92\xc4\x02ab\xc4\x02cd"))
	if err != nil {
		t.Fatal(err)
	}
	_ = append(values.([]any)[0].([]byte), "123"...)
	if second := values.([]any)[1].([]byte); string(second) != "cd" {
		t.Fatal(second)
	}
}

func TestACallWaitsForAServerWithinItsTime(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	client := New(listener.Addr().String(), Options{Timeout: 200 * time.Millisecond})
	defer client.Close()
	_, err = client.Call(background, Request{Command: "PING"})
	if e := expectCode(t, err, "TIMEOUT"); !e.Retryable || !strings.Contains(e.Message, "cannot connect") {
		t.Fatalf("%#v", e)
	}
}

func TestAClosedClientFailsItsCallsAndLeavesNoGoroutine(t *testing.T) {
	client := connect(t)
	uploaded := make(chan error)
	go func() {
		_, err := client.Call(background, Request{Command: "TALLY", Items: func(context.Context) (any, error) {
			return "a", nil
		}})
		uploaded <- err
	}()
	stream, err := client.Stream(background, Request{Command: "TICK"})
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
	_, err = read(stream)
	expectCode(t, err, "CLOSED")
	expectCode(t, <-uploaded, "CLOSED")
	_, err = client.Call(background, Request{Command: "PING"})
	expectCode(t, err, "CLOSED")
	for deadline := time.Now().Add(5 * time.Second); strings.Contains(stacks(), "packline.(*"); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal(stacks())
		}
	}
}

func TestBytesThatAreNoMessagePackAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "\xc1", "\x82\xa1a\x01", "\xc0\xc0", "\x81\x01\x01", "\xdd\xff\xff\xff\xff", "\xd6\xff\x00\x00\x00\x00",
		strings.Repeat("\x91", 65) + "\x90", "\xa1\xff", "\xc6\xff\xff\xff\xff", "\xcf\x00",
	} {
		if value, err := decode([]byte(text)); err == nil {
			t.Errorf("% x: %v", text, value)
		}
	}
}

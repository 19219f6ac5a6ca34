package packline

// One call: its request, its items both ways, its end.
//
// In: a request, what the server says of it. Out: items, a result or a failure. Refused: fields of the protocol's own
// as parameters. Methods without a word about it are called with the client's lock held.

import (
	"context"
	"fmt"
	"io"
	"math"
	"strings"
	"time"
)

// Items is a stream to a command, for one call. It returns io.EOF at its end; another error cancels the call. Its
// context ends with the call, which does not wait for it.
type Items func(ctx context.Context) (any, error)

// ItemsOf is a stream of these items.
func ItemsOf[T any](items ...T) Items {
	return func(context.Context) (any, error) {
		if len(items) == 0 {
			return nil, io.EOF
		}
		item := items[0]
		items = items[1:]
		return item, nil
	}
}

var ownFields = map[string]bool{"cmd": true, "seq": true, "ttl": true, "meta": true, "credit": true}

// Request is one call.
type Request struct {
	Command string
	Params  Map
	Meta    map[string]string
	Items   Items // nil if the command takes no stream
}

// Stream is a call in flight, and the items of its reply.
type Stream struct {
	client     *Client
	connection *connection
	seq        uint64
	ctx        context.Context
	cancel     context.CancelFunc // when it is over

	credit          int      // items that may wait for the reader; 0 for a call that does not stream
	items           chan any // closed behind the last
	received, taken int      // so far, and since the last grant
	hasItems        bool     // of the caller's
	room            int      // how many of them the server still takes: one needs no grant
	result          any
	err             error // io.EOF after a result; nil while the call is open
}

// Next waits for the next item. At the end of the stream it returns io.EOF, and after a failure an *Error. One goroutine
// calls it at a time. Without the lock.
func (s *Stream) Next() (any, error) {
	item, isItem := <-s.items
	if !isItem {
		return nil, s.err
	}
	s.taken++
	if s.taken*2 >= s.credit {
		s.client.mu.Lock()
		defer s.client.mu.Unlock()
		s.control("credit", s.taken)
		s.taken = 0
	}
	return item, nil
}

// Result is the stream's own result, when Next has returned io.EOF.
func (s *Stream) Result() any { return s.result }

// encode encodes the request, whose ttl may be added later. Without the lock.
func (s *Stream) encode(request Request, hasTTL bool) ([]byte, error) {
	fields := Map{"cmd": request.Command, "seq": s.seq}
	if len(request.Meta) > 0 {
		fields["meta"] = request.Meta
	}
	if s.credit > 0 {
		fields["credit"] = s.credit
	}
	if request.Items != nil {
		fields["$items"] = true
	}
	for name, value := range request.Params {
		if strings.HasPrefix(name, "$") || ownFields[name] {
			return nil, fmt.Errorf("%q is never a parameter", name)
		}
		fields[name] = value
	}
	if hasTTL {
		return encode(fields, 1)
	}
	return encode(fields, 0)
}

// take takes what the server says of the call: an item, the final reply or a grant.
func (s *Stream) take(message Map) {
	_, isFailure := message["err"]
	result, isResult := message["res"]
	_, isEmpty := message["$items"]
	switch {
	case s.err != nil: // It was given up.
	case message["more"] == true && !isFailure && !isResult:
		s.giveUp(&Error{Code: "BAD_REPLY", Message: "an item without res"})
	case message["more"] == true && !isFailure && len(s.items) == s.credit:
		s.giveUp(&Error{Code: "BAD_REPLY", Message: "an item that was not asked for: a stream needs Stream, not Call"})
	case message["more"] == true && !isFailure:
		s.received++
		s.items <- result
	case isFailure && message["err"] == "DEADLINE_EXCEEDED" && s.isLate():
		s.settle(contextError(context.DeadlineExceeded, tooLate, true))
	case isFailure:
		s.settle(errorOf(message))
	case isResult && s.credit > 0 && s.received == 0 && result != nil && !isEmpty:
		s.settle(&Error{Code: "BAD_REPLY", Message: "the command answers once, not with a stream: use Call"})
	case isResult:
		s.result = result
		s.settle(io.EOF)
	default:
		s.room = int(math.Min(float64(s.room)+math.Max(0, number(message["credit"])), math.MaxInt32))
		s.client.wake()
	}
}

// isLate tells whether the time of the call's context is over: its end has one code, whichever clock was first.
func (s *Stream) isLate() bool {
	deadline, hasDeadline := s.ctx.Deadline()
	return hasDeadline && time.Until(deadline) < clockTime
}

func (s *Stream) settle(err error) {
	if s.err == nil {
		if e, isError := err.(*Error); isError && (s.hasItems || s.received > 0) && e.Retryable {
			once := *e
			once.Retryable = false
			err = &once
		}
		s.err = err
		s.cancel()
		close(s.items)
	}
}

// giveUp ends the call here, and tells the server. The connection has it until the server answers all the same.
func (s *Stream) giveUp(err error) {
	if s.err == nil {
		s.control("cancel", true)
		if s.connection.unanswered < 0 {
			s.connection.unanswered = 0
		}
		s.settle(err)
	}
}

// control says something about the call, unless it is over.
func (s *Stream) control(name string, value any) {
	if s.err == nil {
		payload, _ := encode(Map{"cmd": 0, "seq": s.seq, name: value}, 0)
		s.connection.send(payload)
	}
}

const tooLate = "no reply came before the end of the call's context"

// watch ends the call with its context. Without the lock.
func (s *Stream) watch() {
	<-s.ctx.Done()
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	s.giveUp(contextError(s.ctx.Err(), tooLate, true))
}

// upload sends the caller's items at the pace of the server. Without the lock.
func (s *Stream) upload(items Items) {
	for {
		item, err := items(s.ctx)
		var payload []byte
		if err == nil {
			payload, err = encode(Map{"cmd": 0, "seq": s.seq, "item": item}, 0)
		}
		if !s.sendItem(payload, err) {
			return
		}
	}
}

// sendItem sends an item when there is room, and tells whether there may be more. Without the lock.
func (s *Stream) sendItem(payload []byte, err error) bool {
	s.client.mu.Lock()
	defer s.client.mu.Unlock()
	for err == nil && s.ctx.Err() == nil && (s.room < 1 || len(s.connection.output) >= maxQueued) {
		s.client.wait(s.ctx)
	}
	switch {
	case s.ctx.Err() != nil:
		return false
	case err == io.EOF:
		s.control("end", true)
	case err != nil: // Half a stream is never a whole one.
		s.giveUp(&Error{Code: "CANCELLED", Message: "the caller's items failed: " + err.Error(), cause: err})
	default:
		s.room--
		s.connection.send(payload)
	}
	return err == nil
}

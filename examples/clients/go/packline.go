// Package packline is a client of packline: calls, streams both ways, deadlines, cancel, reconnect.
//
// In: a server's address, requests. Out: results and items. Refused: what a server would refuse, before anything is
// sent. All failures are of the type *Error. PROTOCOL.md has each byte.
package packline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	maxShort     = 57_310
	longMark     = 0xffff
	maxSeq       = 1 << 32 // A larger one would come back as a float.
	maxQueued    = 1 << 18 // Bytes that wait for the socket; above it, requests and items wait.
	maxWaiting   = 10_000  // Calls that wait for a connection.
	dialTime     = 5 * time.Second
	cancelTime   = 10 * time.Second
	closeTime    = time.Second
	leastBackoff = 100 * time.Millisecond
	mostBackoff  = 10 * time.Second
)

// Map is a map of packline's: parameters, and maps in results.
type Map = map[string]any

// Error is why a call failed. Code is the server's, or one of this client: TIMEOUT, CANCELLED, CONNECTION_LOST, CLOSED,
// BAD_REPLY, BAD_REQUEST. Behind the end of a context, errors.Is finds the context's error.
type Error struct {
	Code, Message string
	Data          any
	// Retryable means that the call was not started: to send it again is safe, when After has passed.
	Retryable bool
	After     time.Duration
	cause     error
}

func (e *Error) Error() string {
	if e.Message == "" {
		return e.Code
	}
	return e.Code + ": " + e.Message
}

// Unwrap is the error of the context, or of the caller's items, if that was the reason.
func (e *Error) Unwrap() error { return e.cause }

func errorOf(reply Map) *Error {
	e := &Error{Data: reply["data"]}
	e.Code, _ = reply["err"].(string)
	e.Message, _ = reply["msg"].(string)
	e.Retryable = e.Code == "NOT_READY" || e.Code == "OVERLOADED" || e.Code == "SHUTTING_DOWN"
	if ms, ok := number(reply["$after"]); ok {
		e.After = time.Duration(ms * float64(time.Millisecond))
	}
	return e
}

// contextError is the failure of a call whose context has ended, for the reason cause.
func contextError(cause error, what string, isSent bool) *Error {
	code := "CANCELLED"
	if errors.Is(cause, context.DeadlineExceeded) {
		code = "TIMEOUT"
	}
	return &Error{Code: code, Message: what, Retryable: !isSent, cause: cause}
}

// number is a number of a reply: any of them may come as an integer or as a float.
func number(value any) (float64, bool) {
	switch n := value.(type) {
	case int64:
		return float64(n), true
	case uint64:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

// Items is a stream to a command. It returns io.EOF at its end; another error cancels the call. Its context ends with
// the call.
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

// Request is one call.
type Request struct {
	Command string
	Params  Map
	Meta    map[string]string
	Items   Items // nil if the command takes no stream
}

// Options are what a Client can be told; zero values stand for the defaults.
type Options struct {
	// Timeout is for a call whose context has no deadline, and the longest wait for a connection: 10 s. A stream, and a
	// call with Items, have no limit but their context's.
	Timeout time.Duration
	// Alive: the server hears something at least this often while a call is open, 1 s to 1 h: 10 s. A server that is
	// silent for as long, or 2 s, is lost.
	Alive time.Duration
	// Credit is how many items of a stream may wait for their reader: 64.
	Credit int
	// MaxPayload is for messages both ways, in bytes: 1 MiB.
	MaxPayload int
}

// Client makes calls to one server over one connection, which it dials when it is needed, and anew when it is lost. It
// may be used by many goroutines.
type Client struct {
	address string
	options Options

	mu          sync.Mutex // for all that is below, in connections and calls too
	current     *connection
	connections map[*connection]bool
	dialing     chan struct{}
	waiting     int
	failures    int
	trouble     string
	chance      *rand.Rand
	closed      chan struct{}
}

// New makes a client of the server at an address, as 127.0.0.1:1235. It dials at the first call.
func New(address string, options Options) *Client {
	if options.Timeout <= 0 {
		options.Timeout = 10 * time.Second
	}
	if options.Alive <= 0 {
		options.Alive = 10 * time.Second
	}
	if options.Alive < time.Second {
		options.Alive = time.Second
	}
	if options.Alive > time.Hour {
		options.Alive = time.Hour
	}
	if options.Credit <= 0 {
		options.Credit = 64
	}
	if options.MaxPayload <= 0 {
		options.MaxPayload = 1 << 20
	}
	return &Client{
		address: address, options: options, connections: map[*connection]bool{}, closed: make(chan struct{}),
		chance: rand.New(rand.NewSource(time.Now().UnixNano())), // Until Go 1.20 the shared one repeats itself.
	}
}

// Close cancels all calls and ends the connections.
func (c *Client) Close() {
	c.mu.Lock()
	if !c.isClosed() {
		close(c.closed)
	}
	ended := []*connection{}
	for connection := range c.connections {
		connection.finish(&Error{Code: "CLOSED", Message: "the client was closed"})
		ended = append(ended, connection)
	}
	c.mu.Unlock()
	for _, connection := range ended {
		<-connection.written
	}
}

// Call makes one call, and returns its result.
func (c *Client) Call(ctx context.Context, request Request) (any, error) {
	if _, ok := ctx.Deadline(); !ok && request.Items == nil {
		limited, cancel := context.WithTimeout(ctx, c.options.Timeout)
		defer cancel()
		ctx = limited
	}
	call, err := c.start(ctx, request, 0)
	if err != nil {
		return nil, err
	}
	defer call.cancel()
	_, isItem := call.next(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if isItem {
		err := &Error{Code: "BAD_REPLY", Message: "the command answers with a stream: use Stream"}
		call.giveUp(err)
		return nil, err // Its last reply may have come meanwhile.
	}
	if call.err != nil {
		return nil, call.err
	}
	return call.reply["res"], nil
}

// Stream calls a command that answers with a stream. Close it, or cancel its context, to leave it early.
func (c *Client) Stream(ctx context.Context, request Request) (*Stream, error) {
	call, err := c.start(ctx, request, c.options.Credit)
	if err != nil {
		return nil, err
	}
	go func() {
		<-call.ctx.Done()
		c.mu.Lock()
		defer c.mu.Unlock()
		call.giveUp(contextError(call.ctx.Err(), "the context of the stream ended", true))
	}()
	return &Stream{call: call, credit: c.options.Credit}, nil
}

// Stream is an iterator:
//
//	defer stream.Close()
//	for stream.Next() {
//		use(stream.Item())
//	}
//	err := stream.Err()
type Stream struct {
	call          *call
	credit        int
	item          any
	count, unpaid int
}

// Next goes to the next item. It returns false at the end, and after a failure.
func (s *Stream) Next() bool {
	item, ok := s.call.next(s.call.ctx)
	mu := &s.call.connection.client.mu
	mu.Lock()
	defer mu.Unlock()
	if !ok {
		reply := s.call.reply
		if _, isEmpty := reply["$items"]; s.count == 0 && reply["res"] != nil && !isEmpty {
			s.call.err = &Error{Code: "BAD_REPLY", Message: "the command answers once, not with a stream: use Call"}
		}
		return false
	}
	s.item = item
	s.count++
	s.unpaid++
	if s.unpaid*2 >= s.credit {
		s.call.control("credit", s.unpaid)
		s.unpaid = 0
	}
	return true
}

// Item is the item that Next went to.
func (s *Stream) Item() any { return s.item }

// Err is why the stream failed; nil after its own end, and after Close.
func (s *Stream) Err() error {
	mu := &s.call.connection.client.mu
	mu.Lock()
	defer mu.Unlock()
	if s.call.err == nil || s.call.err == errLeft {
		return nil
	}
	return s.call.err
}

// Result is the stream's own result, when Next has returned false.
func (s *Stream) Result() any {
	mu := &s.call.connection.client.mu
	mu.Lock()
	defer mu.Unlock()
	return s.call.reply["res"]
}

var errLeft = &Error{Code: "CANCELLED", Message: "the stream was closed"}

// Close leaves the stream, and cancels it if it has not ended.
func (s *Stream) Close() {
	mu := &s.call.connection.client.mu
	mu.Lock()
	defer mu.Unlock()
	s.call.giveUp(errLeft)
}

// start encodes a request, waits for a connection, and sends it.
func (c *Client) start(ctx context.Context, request Request, credit int) (*call, error) {
	own := Map{"cmd": request.Command}
	if len(request.Meta) > 0 {
		own["meta"] = request.Meta
	}
	if credit > 0 {
		own["credit"] = credit
	}
	if request.Items != nil {
		own["$items"] = true
	}
	body, err := appendFields(nil, own)
	for name := range request.Params {
		if strings.HasPrefix(name, "$") || strings.Contains(" cmd seq ttl meta credit ", " "+name+" ") {
			err = fmt.Errorf("%q is never a parameter", name)
		}
	}
	if err == nil {
		body, err = appendFields(body, request.Params)
	}
	if err == nil && len(body)+64 > c.options.MaxPayload {
		err = fmt.Errorf("a message of %d bytes, and a server takes %d", len(body), c.options.MaxPayload)
	}
	if err != nil {
		return nil, &Error{Code: "BAD_REQUEST", Message: err.Error(), cause: err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	connection, err := c.ready(ctx)
	if err != nil {
		return nil, err
	}
	fields := Map{}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, contextError(context.DeadlineExceeded, "no time was left: the call was not sent", false)
		}
		fields["ttl"] = float64(left) / float64(time.Millisecond)
	}
	call := connection.request(ctx, fields, len(own)+len(request.Params), body)
	if request.Items != nil {
		go call.upload(request.Items)
	}
	return call, nil
}

// ready returns a connection that takes a request. A call waits for it within its own time, and without the lock.
func (c *Client) ready(ctx context.Context) (*connection, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	if c.waiting >= maxWaiting {
		return nil, &Error{Code: "OVERLOADED", Message: "too many calls wait for the server: " + c.trouble, Retryable: true}
	}
	c.waiting++
	defer func() { c.waiting-- }()
	for {
		var changed chan struct{}
		switch {
		case c.isClosed():
			return nil, &Error{Code: "CLOSED", Message: "the client was closed: the call was not sent", Retryable: true}
		case ctx.Err() != nil:
			return nil, contextError(ctx.Err(), "the call was not sent: "+c.trouble, false)
		case c.current != nil && c.current.queued < maxQueued:
			return c.current, nil
		case c.current != nil:
			changed = c.current.drained
		case c.dialing == nil:
			c.dialing = make(chan struct{})
			go c.dial(c.dialing)
			fallthrough
		default:
			changed = c.dialing
		}
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		case <-c.closed:
		}
		c.mu.Lock()
	}
}

func (c *Client) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// dial dials while a call waits. The pauses grow until a server has said something, and have chance in them.
func (c *Client) dial(done chan struct{}) {
	defer close(done)
	for {
		c.mu.Lock()
		failures, isWanted := c.failures, c.waiting > 0 && !c.isClosed()
		if !isWanted {
			c.dialing = nil
			c.mu.Unlock()
			return
		}
		c.failures++
		c.mu.Unlock()
		if failures > 0 {
			most := math.Min(float64(mostBackoff), float64(leastBackoff)*math.Pow(2, float64(failures)))
			select {
			case <-time.After(time.Duration(c.chance.Float64() * most)):
			case <-c.closed:
			}
		}
		socket, err := (&net.Dialer{Timeout: dialTime}).Dial("tcp", c.address)
		c.mu.Lock()
		if err != nil {
			c.trouble = "cannot connect: " + err.Error()
		} else if c.isClosed() {
			socket.Close()
		} else {
			c.trouble = "the connection takes nothing more"
			c.dialing = nil
			c.current = newConnection(c, socket)
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
	}
}

func appendFields(b []byte, fields Map) (_ []byte, err error) {
	for name, value := range fields {
		if b, err = appendValue(b, name, 1); err == nil {
			b, err = appendValue(b, value, 1)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return b, nil
}

// message encodes fields of the client's own, which cannot fail.
func message(fields Map) []byte {
	b, _ := appendValue(nil, fields, 0)
	return b
}

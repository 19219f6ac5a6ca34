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
	"sync/atomic"
	"time"
)

const (
	maxPayload   = 1 << 20 // Bytes of one message, both ways.
	maxQueued    = 1 << 18 // Bytes that wait for the socket; above it, requests and items wait.
	maxWaiting   = 10_000  // Calls without a connection.
	streamCredit = 64      // Items of a stream that may wait for their reader.
	dialTime     = 5 * time.Second
	clockTime    = 10 * time.Millisecond // Between two clocks that measure the same deadline.
	leastBackoff = 100 * time.Millisecond
	maxFailures  = 4 // The pause between attempts does not grow after these.
)

// Map is a map of packline's: parameters, and maps in results.
type Map = map[string]any

// Error is why a call failed. Code is the server's, or one of this client: TIMEOUT, CANCELLED, CONNECTION_LOST, CLOSED,
// BAD_REPLY, BAD_REQUEST. If a context has ended, errors.Is finds the context's error.
type Error struct {
	Code, Message string
	Data          any
	// Retryable means that the call was not started: to send it again is safe, when After has passed. It never is if
	// Items were read: they cannot begin anew.
	Retryable bool
	After     time.Duration
	cause     error
}

func (e *Error) Error() string {
	return strings.TrimSuffix(e.Code+": "+e.Message, ": ")
}

// Unwrap is the error of the context, or of the caller's items, if that was the reason.
func (e *Error) Unwrap() error { return e.cause }

// contextError is the failure of a call whose context has ended, for the reason cause.
func contextError(cause error, what string, isSent bool) *Error {
	code := "CANCELLED"
	if errors.Is(cause, context.DeadlineExceeded) {
		code = "TIMEOUT"
	}
	return &Error{Code: code, Message: what, Retryable: !isSent, cause: cause}
}

// Options are what a Client can be told; zero values stand for the defaults.
type Options struct {
	// Timeout is for a call whose context has no deadline, and the longest wait for a connection: 10 s. A stream, and a
	// call with Items, have no limit but their context's.
	Timeout time.Duration
	// Alive: the server hears something at least this often while a call is open: 10 s. Below 1 s it is 1 s, and above
	// 1 h it is 1 h. A server from which nothing comes in that time, or in 2 s, is lost, and one that sends no message
	// for 10 s after a cancel.
	Alive time.Duration
}

// Client makes calls to one server over one connection, which it dials when it is needed, and anew when it is lost. It
// may be used by many goroutines.
type Client struct {
	address  string
	options  Options
	life     context.Context // until Close
	stop     context.CancelFunc
	lastSeq  atomic.Uint64
	patience time.Duration // with a server that does not answer a cancel

	mu          sync.Mutex    // for all that is below, in connections and calls too
	changed     chan struct{} // closed, and made anew, when a call may be able to send
	connections map[*connection]bool
	isDialing   bool
	waiting     int
	failures    int // attempts to connect since a server has said something
	trouble     string
}

// New makes a client of the server at an address, as 127.0.0.1:1235. It dials at the first call.
func New(address string, options Options) *Client {
	if options.Timeout <= 0 {
		options.Timeout = 10 * time.Second
	}
	if options.Alive <= 0 {
		options.Alive = 10 * time.Second
	}
	options.Alive = time.Duration(math.Min(math.Max(float64(options.Alive), float64(time.Second)), float64(time.Hour)))
	c := &Client{
		address: address, options: options, patience: 10 * time.Second,
		changed: make(chan struct{}), connections: map[*connection]bool{},
	}
	c.life, c.stop = context.WithCancel(context.Background())
	return c
}

// Close ends the connections, and with them all calls.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stop()
	c.wake()
	for connection := range c.connections {
		connection.end(&Error{Code: "CLOSED", Message: "the client was closed"})
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
	if _, err = call.Next(); err != io.EOF {
		return nil, err
	}
	return call.Result(), nil
}

// Stream calls a command that answers with a stream. Cancel its context to leave it early.
func (c *Client) Stream(ctx context.Context, request Request) (*Stream, error) {
	return c.start(ctx, request, streamCredit)
}

// start encodes a request, waits for a connection, and sends it.
func (c *Client) start(ctx context.Context, request Request, credit int) (*Stream, error) {
	call := &Stream{client: c, seq: c.lastSeq.Add(1), credit: credit, room: 1, items: make(chan any, credit)}
	deadline, hasDeadline := ctx.Deadline()
	payload, err := call.encode(request, hasDeadline)
	if err != nil {
		return nil, &Error{Code: "BAD_REQUEST", Message: err.Error(), cause: err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if call.connection, err = c.ready(ctx); err != nil {
		return nil, err
	}
	if hasDeadline {
		left := time.Until(deadline)
		if left <= 0 {
			return nil, contextError(context.DeadlineExceeded, "no time was left: the call was not sent", false)
		}
		payload, _ = appendField(payload, "ttl", float64(left)/float64(time.Millisecond), 1)
	}
	call.ctx, call.cancel = context.WithCancel(ctx)
	call.connection.calls[float64(call.seq)] = call
	call.connection.send(payload)
	go call.watch()
	if call.hasItems = request.Items != nil; call.hasItems {
		go call.upload(request.Items)
	}
	return call, nil
}

// ready returns a connection that takes a request. A call waits for it within its own time, and without the lock.
func (c *Client) ready(ctx context.Context) (*connection, error) {
	if c.waiting >= maxWaiting {
		return nil, &Error{Code: "OVERLOADED", Message: "too many calls wait for the server" + c.trouble, Retryable: true}
	}
	c.waiting++
	defer func() { c.waiting-- }()
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	for {
		if c.life.Err() != nil {
			return nil, &Error{Code: "CLOSED", Message: "the client was closed: the call was not sent", Retryable: true}
		}
		if ctx.Err() != nil {
			return nil, contextError(ctx.Err(), "the call was not sent"+c.trouble, false)
		}
		mustDial := !c.isDialing
		for connection := range c.connections {
			if connection.hasRested { // First what has come meanwhile is read: it may be the end.
				connection.hasRested = false
				c.mu.Unlock()
				time.Sleep(time.Millisecond)
				c.mu.Lock()
			}
			if connection.takesCalls && len(connection.output) < maxQueued {
				return connection, nil
			}
			mustDial = mustDial && !connection.takesCalls
		}
		if mustDial {
			c.isDialing = true
			go c.dial(c.failures)
		}
		c.wait(ctx)
	}
}

// wait gives the lock away until a call may be able to send, or the context has ended.
func (c *Client) wait(ctx context.Context) {
	changed := c.changed
	c.mu.Unlock()
	select {
	case <-changed:
	case <-ctx.Done():
	}
	c.mu.Lock()
}

// wake lets all calls that wait look again.
func (c *Client) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// dial makes one attempt, after a pause that grows with the failures and has chance in it. Without the lock.
func (c *Client) dial(failures int) {
	if failures > 0 {
		chance := rand.New(rand.NewSource(time.Now().UnixNano())) // Until Go 1.20 the shared one repeats itself.
		select {
		case <-time.After(time.Duration(chance.Int63n(int64(leastBackoff << failures)))):
		case <-c.life.Done():
		}
	}
	socket, err := (&net.Dialer{Timeout: dialTime}).DialContext(c.life, "tcp", c.address)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.isDialing, c.trouble = false, ""
	if c.failures < maxFailures {
		c.failures++
	}
	if err != nil {
		c.trouble = ": cannot connect: " + err.Error()
	} else if c.life.Err() != nil {
		socket.Close()
	} else {
		c.connections[newConnection(c, socket)] = true
	}
	c.wake()
}

// encode encodes a message. Its map has room for so many fields that are added later.
func encode(fields Map, later int) (b []byte, err error) {
	b = appendMapHeader(nil, len(fields)+later)
	for name, value := range fields {
		if b, err = appendField(b, name, value, 1); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(b) > maxPayload-64 { // Room for a ttl.
		return nil, fmt.Errorf("a message of %d bytes, and a server takes %d", len(b), maxPayload)
	}
	return b, nil
}

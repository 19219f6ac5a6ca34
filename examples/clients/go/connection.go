package packline

// One connection: frames, calls by seq, signs of life.
//
// In: payloads to send, the server's bytes. Out: what comes of each call. Refused: bytes that are no reply, by the end
// of the connection. Methods without a word about it are called with the client's lock held.

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"time"
)

const (
	maxShort = 57_310
	longMark = 0xffff
	never    = time.Duration(-1 << 60) // since what has not happened
)

type connection struct {
	client     *Client
	socket     net.Conn
	takesCalls bool
	hasEnded   bool
	hasRested  bool                // no call was open at the last tick
	calls      map[float64]*Stream // by seq, which comes as any kind of number
	output     []byte              // frames for the socket
	canWrite   *sync.Cond          // there is output, or the connection has ended
	interval   time.Duration       // of ticks
	silence    time.Duration
	unanswered time.Duration // since the first cancel that no message has followed; below 0 without one
	timer      *time.Timer
}

func newConnection(client *Client, socket net.Conn) *connection {
	c := &connection{
		client: client, socket: socket, takesCalls: true, calls: map[float64]*Stream{}, canWrite: sync.NewCond(&client.mu),
		unanswered: never,
	}
	alive := client.options.Alive
	settings, _ := encode(Map{"cmd": 0, "max": maxPayload, "alive": alive.Milliseconds(), "notice": true}, 0)
	c.send(settings)
	if c.interval = alive / 3; alive > client.patience {
		c.interval = client.patience / 3
	}
	c.timer = time.AfterFunc(c.interval, c.tick)
	go c.write()
	go c.read()
	return c
}

func (c *connection) send(payload []byte) {
	size := len(payload)
	if size > maxShort {
		c.output = binary.BigEndian.AppendUint32(append(c.output, 0x1f, 0x1f), uint32(size))
	} else {
		c.output = append(c.output, byte(size>>8)+32, byte(size)+32)
	}
	c.output = append(append(c.output, payload...), '\n')
	c.canWrite.Signal()
}

// write gives the output to the socket, many frames at once. Without the lock.
func (c *connection) write() {
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	for !c.hasEnded {
		if len(c.output) == 0 {
			c.canWrite.Wait()
			continue
		}
		output := c.output
		c.output = nil
		c.client.wake()
		c.client.mu.Unlock()
		_, err := c.socket.Write(output)
		c.client.mu.Lock()
		if err != nil { // The reader finds the end, and before it what the server has said.
			c.takesCalls = false
			return
		}
	}
}

// end ends the connection and all its calls. The server ends them too, because it was told alive.
func (c *connection) end(reason *Error) {
	c.takesCalls, c.hasEnded = false, true
	c.timer.Stop()
	c.socket.Close()
	c.canWrite.Signal()
	delete(c.client.connections, c)
	c.client.wake()
	for _, call := range c.calls {
		call.settle(reason)
	}
}

// leave takes no more calls: the connection ends with the last of them.
func (c *connection) leave() {
	c.takesCalls = false
	if len(c.calls) == 0 {
		c.end(&Error{Code: "CLOSED", Message: "this connection was left"})
	}
}

// tick sends a PING three times in the promised time, or in 10 s, while a call is open. No call waits for it: any byte
// is an answer, and any message an answer to a cancel. It counts ticks, not time: a process that stood still has not
// been silent. Without the lock.
func (c *connection) tick() {
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	if c.hasEnded {
		return
	}
	alive := c.client.options.Alive
	c.timer.Reset(c.interval)
	if c.hasRested = len(c.calls) == 0; c.hasRested {
		c.silence = 0
		return
	}
	c.silence += c.interval
	c.unanswered += c.interval
	if c.silence > alive && c.silence > 2*time.Second || c.unanswered > c.client.patience {
		c.end(&Error{Code: "CONNECTION_LOST", Message: "the server has not answered a PING or a cancel in time"})
		return
	}
	ping, _ := encode(Map{"cmd": 1, "seq": c.client.lastSeq.Add(1)}, 0)
	c.send(ping)
}

// heard is the socket, to its reader. Any byte is a sign of life: a long message takes its time.
type heard struct{ *connection }

func (h heard) Read(into []byte) (int, error) {
	n, err := h.socket.Read(into)
	h.client.mu.Lock()
	defer h.client.mu.Unlock()
	h.silence = 0
	return n, err
}

// read takes messages until the connection ends. Without the lock.
func (c *connection) read() {
	reader := bufio.NewReaderSize(heard{c}, 64*1024)
	for isOpen := true; isOpen; {
		message, err := readMessage(reader)
		c.client.mu.Lock()
		if err != nil {
			c.end(err)
		} else {
			c.take(message)
		}
		isOpen = !c.hasEnded
		c.client.mu.Unlock()
	}
}

func (c *connection) take(message Map) {
	c.unanswered = never
	seq, hasSeq := message["seq"]
	_, isFailure := message["err"]
	_, isResult := message["res"]
	_, isGoing := message["going"]
	switch {
	case hasSeq:
		c.client.failures = 0
		call := c.calls[number(seq)]
		if isFailure || isResult && message["more"] != true {
			delete(c.calls, number(seq))
		}
		if call != nil {
			call.take(message)
		}
		if !c.takesCalls || message["err"] == "SHUTTING_DOWN" {
			c.leave()
		}
	case isFailure: // About the connection: BAD_FRAME, OVERLOADED, SHUTTING_DOWN.
		c.end(errorOf(message))
	case isResult:
		c.end(broken("a reply without a seq, to no request"))
	case isGoing:
		c.leave()
	}
}

func lost(err error) *Error {
	return &Error{Code: "CONNECTION_LOST", Message: fmt.Sprintf("the connection ended before the reply: %v", err)}
}

// broken is why the server's bytes are no reply: the connection is of no more use.
func broken(format string, args ...any) *Error {
	return &Error{Code: "BAD_REPLY", Message: fmt.Sprintf(format, args...) + ": the connection was closed"}
}

func readMessage(reader io.Reader) (Map, *Error) {
	var header [4]byte
	if _, err := io.ReadFull(reader, header[:2]); err != nil {
		return nil, lost(err)
	}
	size := int64(header[0]-32)<<8 | int64(header[1]-32)
	isLong := size == longMark
	if isLong {
		if _, err := io.ReadFull(reader, header[:]); err != nil {
			return nil, lost(err)
		}
		size = int64(binary.BigEndian.Uint32(header[:]))
	}
	if size > maxPayload || isLong != (size > maxShort) {
		return nil, broken("a frame of %d bytes, short or long", size)
	}
	var frame bytes.Buffer // It grows with what comes, not with what is claimed.
	if _, err := io.CopyN(&frame, reader, size+1); err != nil {
		return nil, lost(err)
	}
	if frame.Bytes()[size] != '\n' {
		return nil, broken("the boundary between frames is lost")
	}
	value, err := decode(frame.Bytes()[:size])
	if err != nil {
		return nil, broken("a payload that is not MessagePack: %v", err)
	}
	message, ok := value.(Map)
	_, hasSeq := message["seq"]
	if !ok || len(message) == 0 || len(message) == 1 && hasSeq {
		return nil, broken("%v in place of a reply", value)
	}
	return message, nil
}

func errorOf(reply Map) *Error {
	e := &Error{Code: fmt.Sprint(reply["err"]), Data: reply["data"]}
	e.Message, _ = reply["msg"].(string)
	e.Retryable = e.Code == "NOT_READY" || e.Code == "OVERLOADED" || e.Code == "SHUTTING_DOWN"
	e.After = time.Duration(math.Min(math.Max(0, number(reply["$after"])*float64(time.Millisecond)), 1<<62))
	return e
}

// number is a number of a reply: any of them may come as an integer or as a float. An infinity is none.
func number(value any) float64 {
	if n, isInt := value.(int64); isInt {
		return float64(n)
	}
	if n, _ := value.(float64); math.Abs(n) <= math.MaxFloat64 {
		return n
	}
	return 0
}

package packline

// One connection: frames, calls by seq, signs of life.
//
// In: payloads to send, the server's bytes. Out: what comes of each call. Refused: bytes that are no reply, by the end
// of the connection. Methods without a word about it are called with the client's lock held.

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net"
	"sync/atomic"
	"time"
)

type connection struct {
	client *Client
	socket net.Conn

	calls     map[uint64]*call
	nextSeq   uint64
	pingSeq   uint64
	isPinging bool
	isLeaving bool
	err       *Error // why it ended; nothing is sent then
	frames    int    // that have come

	queue   [][]byte // frames for the socket
	queued  int      // their bytes, and those that the socket is taking
	wake    chan struct{}
	drained chan struct{} // closed, and made anew, when there is room in the queue
	ended   chan struct{}
	written chan struct{} // closed behind the last byte

	heard, spoke atomic.Bool // since the last tick
}

func newConnection(client *Client, socket net.Conn) *connection {
	c := &connection{
		client: client, socket: socket, calls: map[uint64]*call{}, wake: make(chan struct{}, 1),
		drained: make(chan struct{}), ended: make(chan struct{}), written: make(chan struct{}),
	}
	client.connections[c] = true
	c.promise()
	go c.write()
	go c.read()
	go c.live()
	return c
}

// Sending

func (c *connection) send(payload []byte) {
	if c.err != nil {
		return
	}
	size := len(payload)
	frame := make([]byte, 0, size+7)
	if size > maxShort {
		frame = binary.BigEndian.AppendUint32(append(frame, 0x1f, 0x1f), uint32(size))
	} else {
		frame = append(frame, byte(size>>8)+32, byte(size)+32)
	}
	frame = append(append(frame, payload...), '\n')
	c.queue = append(c.queue, frame)
	c.queued += len(frame)
	c.wakeWriter()
}

func (c *connection) wakeWriter() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// write gives the queue to the socket, many frames at once. Without the lock.
func (c *connection) write() {
	defer close(c.written)
	defer c.socket.Close()
	for range c.wake {
		c.client.mu.Lock()
		frames, hasEnded := c.queue, c.err != nil
		c.queue = nil
		c.client.mu.Unlock()
		if len(frames) > 0 {
			if _, err := c.socket.Write(bytes.Join(frames, nil)); err != nil {
				c.lose("CONNECTION_LOST", fmt.Sprintf("the connection ended before the reply: %v", err))
				return
			}
			c.spoke.Store(true)
		}
		if hasEnded {
			return
		}
		c.client.mu.Lock()
		c.queued = 0
		for _, frame := range c.queue {
			c.queued += len(frame)
		}
		if c.queued < maxQueued && c.err == nil {
			close(c.drained)
			c.drained = make(chan struct{})
		}
		c.client.mu.Unlock()
	}
}

// request sends a request; body is count fields beside those.
func (c *connection) request(ctx context.Context, fields Map, count int, body []byte) *call {
	call := &call{connection: c, seq: c.freeSeq(), room: 1, changed: make(chan struct{})}
	call.ctx, call.cancel = context.WithCancel(ctx)
	c.calls[call.seq] = call
	fields["seq"] = call.seq
	payload, _ := appendFields(appendMapHeader(nil, count+len(fields)), fields)
	c.send(append(payload, body...))
	return call
}

func (c *connection) freeSeq() uint64 {
	for c.calls[c.nextSeq] != nil || c.isPinging && c.nextSeq == c.pingSeq {
		c.nextSeq = (c.nextSeq + 1) % maxSeq
	}
	seq := c.nextSeq
	c.nextSeq = (seq + 1) % maxSeq
	return seq
}

// The end

// lose ends the connection at once: all its calls have failed. Without the lock.
func (c *connection) lose(code, text string) {
	c.client.mu.Lock()
	defer c.client.mu.Unlock()
	c.end(&Error{Code: code, Message: text})
	c.socket.Close()
}

// finish ends it in order: its calls are cancelled, and what was said still goes out.
func (c *connection) finish(reason *Error) {
	for _, call := range c.calls {
		call.giveUp(reason)
	}
	c.end(reason)
}

func (c *connection) end(reason *Error) {
	if c.err != nil {
		return
	}
	c.err = reason
	close(c.ended)
	close(c.drained)
	delete(c.client.connections, c)
	if c.client.current == c {
		c.client.current = nil
	}
	for _, call := range c.calls {
		call.settle(nil, reason)
	}
	_ = c.socket.SetWriteDeadline(time.Now().Add(closeTime))
	c.wakeWriter()
}

// leave takes no more calls: the connection ends with the last of them.
func (c *connection) leave() {
	c.isLeaving = true
	if c.client.current == c {
		c.client.current = nil
	}
	if len(c.calls) == 0 {
		c.finish(&Error{Code: "CLOSED", Message: "this connection was left"})
	}
}

// Signs of life

func (c *connection) promise() {
	options := c.client.options
	c.send(message(Map{"cmd": 0, "max": options.MaxPayload, "alive": options.Alive.Milliseconds(), "notice": true}))
}

// live ticks three times in the promised time. It counts ticks, not time: a process that stood still has not been
// silent. Without the lock.
func (c *connection) live() {
	interval := c.client.options.Alive / 3
	limit := c.client.options.Alive
	if limit < 2*time.Second {
		limit = 2 * time.Second
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for silentTicks := 0; ; {
		select {
		case <-c.ended:
			return
		case <-ticker.C:
		}
		heard, spoke := c.heard.Swap(false), c.spoke.Swap(false)
		c.client.mu.Lock()
		isOpen := len(c.calls) > 0
		silentTicks++
		if heard || !c.isPinging || !isOpen {
			silentTicks = 0
		}
		if isOpen && !c.isPinging && !(heard && spoke) {
			c.isPinging, c.pingSeq = true, c.freeSeq()
			c.send(message(Map{"cmd": 1, "seq": c.pingSeq}))
		} else if isOpen && !spoke && c.queued == 0 {
			c.promise()
		}
		c.client.mu.Unlock()
		if time.Duration(silentTicks)*interval >= limit {
			c.lose("CONNECTION_LOST", "the server has said nothing, not even to a PING")
		}
	}
}

// expectAnswer: a server answers a cancel at once; one that answers nothing at all is gone.
func (c *connection) expectAnswer(call *call) {
	frames := c.frames
	time.AfterFunc(cancelTime, func() {
		c.client.mu.Lock()
		isGone := c.calls[call.seq] == call && c.frames == frames
		c.client.mu.Unlock()
		if isGone {
			c.lose("CONNECTION_LOST", fmt.Sprintf("the server has not answered a cancel for %v", cancelTime))
		}
	})
}

// Receiving

// Read is the socket's, and notes that something came.
func (c *connection) Read(into []byte) (int, error) {
	n, err := c.socket.Read(into)
	if n > 0 {
		c.heard.Store(true)
	}
	return n, err
}

// read takes messages until the connection ends. Without the lock.
func (c *connection) read() {
	reader := bufio.NewReaderSize(c, 64*1024)
	for {
		payload, err := c.payload(reader)
		if err == nil {
			var value any
			if value, err = decode(payload); err == nil {
				c.client.mu.Lock()
				err = c.take(value)
				c.client.mu.Unlock()
			} else {
				err = broken("a payload that is not MessagePack: " + err.Error())
			}
		}
		switch err.(type) {
		case nil:
		case broken:
			c.lose("BAD_REPLY", err.Error()+": the connection was closed")
			return
		default:
			c.lose("CONNECTION_LOST", fmt.Sprintf("the connection ended before the reply: %v", err))
			return
		}
	}
}

// broken is why the server's bytes are no reply: the connection is of no more use.
type broken string

func (b broken) Error() string { return string(b) }

func (c *connection) payload(reader io.Reader) ([]byte, error) {
	var header [4]byte
	if _, err := io.ReadFull(reader, header[:2]); err != nil {
		return nil, err
	}
	size := int64(header[0]-32)<<8 | int64(header[1]-32)
	if size == longMark {
		if _, err := io.ReadFull(reader, header[:]); err != nil {
			return nil, err
		}
		if size = int64(binary.BigEndian.Uint32(header[:])); size <= maxShort {
			return nil, broken(fmt.Sprintf("a long frame for %d bytes", size))
		}
	} else if size > maxShort {
		return nil, broken(fmt.Sprintf("a short frame of %d bytes", size))
	}
	if most := int64(c.client.options.MaxPayload); size > most {
		return nil, broken(fmt.Sprintf("a frame of %d bytes, and at most %d are taken", size, most))
	}
	var payload bytes.Buffer // It grows with what comes, not with what is claimed.
	if _, err := io.CopyN(&payload, reader, size+1); err != nil {
		return nil, err
	}
	if payload.Bytes()[size] != '\n' {
		return nil, broken("the boundary between frames is lost")
	}
	return payload.Bytes()[:size], nil
}

func (c *connection) take(value any) error {
	fields, ok := value.(Map)
	seqValue, hasSeq := fields["seq"]
	if !ok || len(fields) == 0 || len(fields) == 1 && hasSeq {
		return broken(fmt.Sprintf("%v in place of a reply", value))
	}
	c.frames++
	_, hasErr := fields["err"]
	_, hasRes := fields["res"]
	if !hasSeq {
		if _, isGoing := fields["going"]; hasErr {
			c.end(errorOf(fields)) // About the connection: BAD_FRAME, OVERLOADED, SHUTTING_DOWN.
		} else if hasRes {
			return broken("a reply without a seq, to no request")
		} else if isGoing {
			c.leave()
		}
		return nil
	}
	c.client.failures = 0
	seqNumber, ok := number(seqValue)
	if !ok || seqNumber < 0 || seqNumber >= maxSeq || seqNumber != math.Trunc(seqNumber) {
		return broken(fmt.Sprintf("the seq %v, which no request had", seqValue))
	}
	seq := uint64(seqNumber)
	call := c.calls[seq]
	switch {
	case !hasErr && !hasRes:
		if credit, ok := number(fields["credit"]); ok && call != nil {
			call.room += int(credit)
			call.wake()
		}
	case fields["more"] == true:
		if call != nil && !call.isOver() {
			call.items = append(call.items, fields["res"])
			call.wake()
		}
	default:
		c.onFinal(seq, call, fields, hasErr)
	}
	return nil
}

func (c *connection) onFinal(seq uint64, call *call, reply Map, hasErr bool) {
	if c.isPinging && seq == c.pingSeq {
		c.isPinging = false
		return
	}
	delete(c.calls, seq)
	if call != nil && hasErr {
		call.settle(nil, errorOf(reply))
	} else if call != nil {
		call.settle(reply, nil)
	}
	if c.isLeaving || reply["err"] == "SHUTTING_DOWN" {
		c.leave()
	}
}

// call is one call in flight: its items, then its reply or its failure.
type call struct {
	connection *connection
	seq        uint64
	ctx        context.Context
	cancel     context.CancelFunc // when it is over
	items      []any
	reply      Map
	err        error
	room       int // items of the caller's that the server still takes: one needs no grant
	changed    chan struct{}
}

func (k *call) isOver() bool { return k.reply != nil || k.err != nil }

func (k *call) wake() {
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *call) settle(reply Map, err error) {
	if !k.isOver() {
		k.reply, k.err = reply, err
		k.cancel()
		k.wake()
	}
}

// control says something about this call, unless it is over.
func (k *call) control(name string, value any) {
	if !k.isOver() {
		k.connection.send(message(Map{"cmd": 0, "seq": k.seq, name: value}))
	}
}

// giveUp ends the call here, and tells the server. The seq is free when the server has answered all the same.
func (k *call) giveUp(err error) {
	if !k.isOver() {
		k.control("cancel", true)
		k.settle(nil, err)
		k.connection.expectAnswer(k)
	}
}

// next waits for an item, or for the end of the call: then there is none. Without the lock.
func (k *call) next(ctx context.Context) (any, bool) {
	mu := &k.connection.client.mu
	mu.Lock()
	defer mu.Unlock()
	for len(k.items) == 0 && !k.isOver() {
		k.wait(ctx)
		if ctx.Err() != nil {
			k.giveUp(contextError(ctx.Err(), "no reply came before the end of the call's context", true))
		}
	}
	if len(k.items) == 0 {
		return nil, false
	}
	item := k.items[0]
	k.items = k.items[1:]
	return item, true
}

// wait gives the lock away until something has changed, or the context has ended.
func (k *call) wait(ctx context.Context) {
	changed := k.changed
	k.connection.client.mu.Unlock()
	select {
	case <-changed:
	case <-ctx.Done():
	}
	k.connection.client.mu.Lock()
}

// upload sends the caller's items at the pace of the server. Without the lock.
func (k *call) upload(items Items) {
	c, mu := k.connection, &k.connection.client.mu
	for {
		item, err := items(k.ctx)
		var payload []byte
		if err == nil {
			payload, err = appendFields(appendMapHeader(nil, 3), Map{"cmd": 0, "seq": k.seq, "item": item})
			if most := c.client.options.MaxPayload; err == nil && len(payload) > most {
				err = fmt.Errorf("an item of %d bytes, and a server takes %d", len(payload), most)
			}
		}
		mu.Lock()
		for err == nil && !k.isOver() && (k.room == 0 || c.queued >= maxQueued) {
			if k.room == 0 {
				k.wait(k.ctx)
				continue
			}
			drained := c.drained
			mu.Unlock()
			<-drained
			mu.Lock()
		}
		if err == io.EOF {
			k.control("end", true)
		} else if err != nil { // Half a stream is never a whole one.
			k.giveUp(&Error{Code: "CANCELLED", Message: "the caller's items failed: " + err.Error(), cause: err})
		} else if !k.isOver() {
			k.room--
			c.send(payload)
		}
		isDone := err != nil || k.isOver()
		mu.Unlock()
		if isDone {
			return
		}
	}
}

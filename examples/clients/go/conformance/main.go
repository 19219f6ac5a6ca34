// The driver by which the conformance kit checks the Go client: build it, then
// `deno task conformance --client -- ./driver`.
//
// In: steps, a line each. Out: answers (tests/conformance/README.md). Refused: nothing.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"packline.example/packline"
)

type step struct {
	Connect       string
	AliveMs       int
	Call, Stream  *string
	Calls         []step
	Params        packline.Map
	Meta          map[string]string
	Items         *[]any
	TimeoutMs     *float64
	CancelAfterMs *float64
	Take          int
}

func fromJSON(value any) any {
	switch v := value.(type) {
	case []any:
		for i := range v {
			v[i] = fromJSON(v[i])
		}
	case packline.Map:
		if text, ok := v["$bin"].(string); ok {
			bytes, _ := hex.DecodeString(text)
			return bytes
		}
		if text, ok := v["$int"].(string); ok {
			n, _ := strconv.ParseInt(text, 10, 64)
			return n
		}
		for name := range v {
			v[name] = fromJSON(v[name])
		}
	case float64: // JSON has one kind of number.
		if v == float64(int64(v)) {
			return int64(v)
		}
	}
	return value
}

func toJSON(value any) any {
	switch v := value.(type) {
	case []byte:
		return packline.Map{"$bin": hex.EncodeToString(v)}
	case []any:
		for i := range v {
			v[i] = toJSON(v[i])
		}
	case packline.Map:
		for name := range v {
			v[name] = toJSON(v[name])
		}
	case int64:
		if v >= 1<<53 || v <= -1<<53 {
			return packline.Map{"$int": strconv.FormatInt(v, 10)}
		}
	case uint64:
		return packline.Map{"$int": strconv.FormatUint(v, 10)}
	}
	return value
}

func failure(err error) packline.Map {
	var e *packline.Error
	if errors.As(err, &e) {
		return packline.Map{"err": e.Code}
	}
	return packline.Map{"err": err.Error()}
}

func run(client *packline.Client, s step) packline.Map {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if s.TimeoutMs != nil {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*s.TimeoutMs*float64(time.Millisecond)))
		defer cancel()
	}
	if s.CancelAfterMs != nil {
		time.AfterFunc(time.Duration(*s.CancelAfterMs*float64(time.Millisecond)), cancel)
	}
	fromJSON(s.Params)
	request := packline.Request{Params: s.Params, Meta: s.Meta}
	if s.Items != nil {
		fromJSON(*s.Items)
		request.Items = packline.ItemsOf(*s.Items...)
	}
	if s.Call != nil {
		request.Command = *s.Call
		result, err := client.Call(ctx, request)
		if err != nil {
			return failure(err)
		}
		return packline.Map{"res": toJSON(result)}
	}
	request.Command = *s.Stream
	stream, err := client.Stream(ctx, request)
	if err != nil {
		return failure(err)
	}
	items := []any{}
	item, err := stream.Next()
	for ; err == nil; item, err = stream.Next() {
		items = append(items, toJSON(item))
		if len(items) == s.Take {
			return packline.Map{"items": items} // The context ends, and the stream with it.
		}
	}
	answer := packline.Map{"res": toJSON(stream.Result())}
	if err != io.EOF {
		answer = failure(err)
	}
	answer["items"] = items
	return answer
}

func main() {
	var client *packline.Client
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var s step
		if err := json.Unmarshal(line, &s); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		answer := packline.Map{}
		switch {
		case s.Calls != nil:
			replies := make([]packline.Map, len(s.Calls))
			var all sync.WaitGroup
			for i := range s.Calls {
				all.Add(1)
				go func(i int) {
					defer all.Done()
					replies[i] = run(client, s.Calls[i])
				}(i)
			}
			all.Wait()
			answer["replies"] = replies
		case s.Call != nil || s.Stream != nil:
			answer = run(client, s)
		default:
			if client != nil {
				client.Close()
			}
			client = packline.New(s.Connect, packline.Options{
				Timeout: 8 * time.Second,
				Alive:   time.Duration(s.AliveMs) * time.Millisecond,
			})
		}
		text, _ := json.Marshal(answer)
		fmt.Println(string(text))
	}
	if client != nil {
		client.Close()
	}
}

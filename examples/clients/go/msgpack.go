package packline

// The part of MessagePack that packline needs, so that the client depends on nothing.
//
// In: values. Out: bytes, and values from bytes. Refused: what a packline server refuses, such as text that is not
// UTF-8, extension types, more than 64 containers in one another.

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"unicode/utf8"
)

const maxDepth = 64

// appendHeader writes the header of a text, a binary, an array or a map with n parts. The short form has n in the low
// bits of its only byte. The others, long and the byte after it, have n behind them, in two or four bytes.
func appendHeader(b []byte, n int, short byte, shortMost int, long byte) []byte {
	switch {
	case n <= shortMost:
		return append(b, short|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, long), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, long+1), uint32(n))
}

func appendMapHeader(b []byte, n int) []byte { return appendHeader(b, n, 0x80, 15, 0xde) }

// appendInt has three of the seven forms: a longer one than necessary is valid.
func appendInt(b []byte, n int64) []byte {
	switch {
	case n >= -32 && n <= math.MaxInt8:
		return append(b, byte(n))
	case n >= math.MinInt32 && n <= math.MaxInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n))
}

// appendValue writes a value of Go's own kinds: numbers, text, []byte, slices, and maps by text. It is inside of depth
// containers.
func appendValue(b []byte, value any, depth int) (_ []byte, err error) {
	v := reflect.ValueOf(value)
	switch kind := v.Kind(); {
	case value == nil:
		return append(b, 0xc0), nil
	case kind == reflect.Bool && v.Bool():
		return append(b, 0xc3), nil
	case kind == reflect.Bool:
		return append(b, 0xc2), nil
	case v.CanInt():
		return appendInt(b, v.Int()), nil
	case v.CanUint() && v.Uint() <= math.MaxInt64:
		return appendInt(b, int64(v.Uint())), nil
	case v.CanUint():
		return binary.BigEndian.AppendUint64(append(b, 0xcf), v.Uint()), nil
	case v.CanFloat():
		return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(v.Float())), nil
	case kind == reflect.String && !utf8.ValidString(v.String()):
		return nil, fmt.Errorf("text that is not UTF-8: %q", v.String())
	case kind == reflect.String:
		return append(appendHeader(b, v.Len(), 0xa0, 31, 0xda), v.String()...), nil
	case kind == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		return append(appendHeader(b, v.Len(), 0, -1, 0xc5), v.Bytes()...), nil
	case depth == maxDepth:
		return nil, fmt.Errorf("more than %d containers in one another", maxDepth)
	case kind == reflect.Slice || kind == reflect.Array:
		b = appendHeader(b, v.Len(), 0x90, 15, 0xdc)
		for i := 0; i < v.Len() && err == nil; i++ {
			b, err = appendValue(b, v.Index(i).Interface(), depth+1)
		}
		return b, err
	case kind == reflect.Map && v.Type().Key().Kind() == reflect.String:
		b = appendMapHeader(b, v.Len())
		for each := v.MapRange(); each.Next() && err == nil; {
			b, err = appendField(b, each.Key().String(), each.Value().Interface(), depth+1)
		}
		return b, err
	}
	return nil, fmt.Errorf("%T has no place in a message", value)
}

// appendField writes a key of a map, and its value.
func appendField(b []byte, name string, value any, depth int) ([]byte, error) {
	b, err := appendValue(b, name, depth)
	if err != nil {
		return nil, err
	}
	return appendValue(b, value, depth)
}

// decode reads the one value that a payload is. Integers become int64, or uint64 if they are larger.
func decode(payload []byte) (any, error) {
	d := decoder{rest: payload}
	value := d.value(0)
	if len(d.rest) > 0 {
		d.fail("%d bytes behind the value", len(d.rest))
	}
	return value, d.err
}

// decoder reads one value after another. After an error it reads nothing more, and its values mean nothing.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf(format, args...)
	}
	d.rest = nil
}

func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.fail("a value that ends early")
		return nil
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken
}

// number reads an unsigned integer of 1, 2, 4 or 8 bytes.
func (d *decoder) number(size uint64) (n uint64) {
	for _, each := range d.take(size) {
		n = n<<8 | uint64(each)
	}
	return n
}

func (d *decoder) value(depth int) any {
	switch kind := byte(d.number(1)); {
	case kind <= 0x7f || kind >= 0xe0:
		return int64(int8(kind))
	case kind <= 0x8f:
		return d.fields(uint64(kind&15), depth)
	case kind <= 0x9f:
		return d.array(uint64(kind&15), depth)
	case kind <= 0xbf:
		return d.text(uint64(kind & 31))
	case kind == 0xc0:
		return nil
	case kind == 0xc2 || kind == 0xc3:
		return kind == 0xc3
	case kind >= 0xc4 && kind <= 0xc6:
		return append([]byte{}, d.take(d.number(1<<(kind-0xc4)))...) // its own: it holds no frame, and may grow
	case kind == 0xca:
		return float64(math.Float32frombits(uint32(d.number(4))))
	case kind == 0xcb:
		return math.Float64frombits(d.number(8))
	case kind >= 0xcc && kind <= 0xcf:
		n := d.number(1 << (kind - 0xcc))
		if n > math.MaxInt64 {
			return n
		}
		return int64(n)
	case kind >= 0xd0 && kind <= 0xd3:
		size := uint64(1) << (kind - 0xd0)
		shift := 64 - 8*size // It spreads the sign.
		return int64(d.number(size)<<shift) >> shift
	case kind >= 0xd9 && kind <= 0xdb:
		return d.text(d.number(1 << (kind - 0xd9)))
	case kind == 0xdc || kind == 0xdd:
		return d.array(d.number(2<<(kind-0xdc)), depth)
	case kind == 0xde || kind == 0xdf:
		return d.fields(d.number(2<<(kind-0xde)), depth)
	default:
		d.fail("the byte %#x, which begins no value of packline's", kind)
		return nil
	}
}

func (d *decoder) text(n uint64) string {
	text := string(d.take(n))
	if !utf8.ValidString(text) {
		d.fail("text that is not UTF-8: %q", text)
	}
	return text
}

// deeper fails inside of too many containers.
func (d *decoder) deeper(depth int) int {
	if depth == maxDepth {
		d.fail("more than %d containers in one another", maxDepth)
	}
	return depth + 1
}

func (d *decoder) array(n uint64, depth int) []any {
	depth = d.deeper(depth)
	parts := []any{} // It grows with what is there, not with what is claimed.
	for ; n > 0 && d.err == nil; n-- {
		parts = append(parts, d.value(depth))
	}
	return parts
}

func (d *decoder) fields(n uint64, depth int) Map {
	depth = d.deeper(depth)
	fields := Map{}
	for ; n > 0 && d.err == nil; n-- {
		name, ok := d.value(depth).(string)
		if !ok {
			d.fail("a key of a map that is not text")
		}
		fields[name] = d.value(depth)
	}
	return fields
}

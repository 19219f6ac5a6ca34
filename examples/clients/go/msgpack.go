package packline

// The part of MessagePack that packline needs, so that the client depends on nothing.
//
// In: values. Out: bytes, and values from bytes. Refused: what a packline server refuses, such as text that is not
// UTF-8, extension types, more than 64 containers in one another.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"unicode/utf8"
)

const maxDepth = 64

var (
	errDepth = fmt.Errorf("more than %d containers in one another", maxDepth)
	errShort = errors.New("a value that ends early")
)

// appendSized writes the header of a text, a binary, an array or a map: the first of the forms that is long enough.
// A fixed form holds its length in the low bits of its first byte; form8 is 0 if there is no form with one byte.
func appendSized(b []byte, n int, fixed byte, fixedMost int, form8, form16, form32 byte) []byte {
	switch {
	case n <= fixedMost:
		return append(b, fixed|byte(n))
	case n <= math.MaxUint8 && form8 != 0:
		return append(b, form8, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, form16), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, form32), uint32(n))
}

func appendText(b []byte, text string) []byte {
	return append(appendSized(b, len(text), 0xa0, 31, 0xd9, 0xda, 0xdb), text...)
}

func appendMapHeader(b []byte, n int) []byte { return appendSized(b, n, 0x80, 15, 0, 0xde, 0xdf) }

func appendInt(b []byte, n int64) []byte {
	switch {
	case n >= 0:
		return appendUint(b, uint64(n))
	case n >= -32:
		return append(b, byte(n))
	case n >= math.MinInt8:
		return append(b, 0xd0, byte(n))
	case n >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(b, 0xd1), uint16(n))
	case n >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n))
}

func appendUint(b []byte, n uint64) []byte {
	switch {
	case n <= math.MaxInt8:
		return append(b, byte(n))
	case n <= math.MaxUint8:
		return append(b, 0xcc, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), n)
}

// appendValue writes a value of Go's own kinds: numbers, text, []byte, slices, and maps by text or integer.
func appendValue(b []byte, value any, depth int) ([]byte, error) {
	if value == nil {
		return append(b, 0xc0), nil
	}
	v := reflect.ValueOf(value)
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			return append(b, 0xc3), nil
		}
		return append(b, 0xc2), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return appendInt(b, v.Int()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return appendUint(b, v.Uint()), nil
	case reflect.Float32, reflect.Float64:
		return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(v.Float())), nil
	case reflect.String:
		if !utf8.ValidString(v.String()) {
			return nil, fmt.Errorf("text that is not UTF-8: %q", v.String())
		}
		return appendText(b, v.String()), nil
	case reflect.Slice, reflect.Array:
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			bytes := v.Bytes()
			return append(appendSized(b, len(bytes), 0, -1, 0xc4, 0xc5, 0xc6), bytes...), nil
		}
		return appendArray(b, v, depth)
	case reflect.Map:
		return appendMap(b, v, depth)
	}
	return nil, fmt.Errorf("%T has no place in a message", value)
}

func appendArray(b []byte, v reflect.Value, depth int) (_ []byte, err error) {
	if depth >= maxDepth {
		return nil, errDepth
	}
	b = appendSized(b, v.Len(), 0x90, 15, 0, 0xdc, 0xdd)
	for i := 0; i < v.Len() && err == nil; i++ {
		b, err = appendValue(b, v.Index(i).Interface(), depth+1)
	}
	return b, err
}

func appendMap(b []byte, v reflect.Value, depth int) (_ []byte, err error) {
	if depth >= maxDepth {
		return nil, errDepth
	}
	b = appendMapHeader(b, v.Len())
	for each := v.MapRange(); each.Next() && err == nil; {
		switch key := each.Key(); {
		case key.Kind() == reflect.String && utf8.ValidString(key.String()):
			b = appendText(b, key.String())
		case key.CanInt():
			b = appendText(b, strconv.FormatInt(key.Int(), 10))
		default:
			return nil, fmt.Errorf("a key that is neither text nor an integer: %v", key)
		}
		b, err = appendValue(b, each.Value().Interface(), depth+1)
	}
	return b, err
}

// decode reads the one value that a payload is. Integers become int64, or uint64 if they are larger.
func decode(payload []byte) (any, error) {
	d := decoder{payload}
	value, err := d.value(0)
	if err == nil && len(d.rest) > 0 {
		err = fmt.Errorf("%d bytes behind the value", len(d.rest))
	}
	return value, err
}

type decoder struct{ rest []byte }

func (d *decoder) take(n uint64) ([]byte, error) {
	if uint64(len(d.rest)) < n {
		return nil, errShort
	}
	taken := d.rest[:n]
	d.rest = d.rest[n:]
	return taken, nil
}

// number reads an unsigned integer of 1, 2, 4 or 8 bytes.
func (d *decoder) number(size uint64) (n uint64, err error) {
	bytes, err := d.take(size)
	for _, each := range bytes {
		n = n<<8 | uint64(each)
	}
	return n, err
}

func (d *decoder) value(depth int) (any, error) {
	first, err := d.number(1)
	if err != nil {
		return nil, err
	}
	switch kind := byte(first); {
	case kind <= 0x7f || kind >= 0xe0:
		return int64(int8(kind)), nil
	case kind <= 0x8f:
		return d.fields(first&15, depth)
	case kind <= 0x9f:
		return d.array(first&15, depth)
	case kind <= 0xbf:
		return d.text(first & 31)
	case kind == 0xc0:
		return nil, nil
	case kind == 0xc2 || kind == 0xc3:
		return kind == 0xc3, nil
	case kind == 0xca:
		n, err := d.number(4)
		return float64(math.Float32frombits(uint32(n))), err
	case kind == 0xcb:
		n, err := d.number(8)
		return math.Float64frombits(n), err
	case kind >= 0xcc && kind <= 0xcf:
		n, err := d.number(1 << (kind - 0xcc))
		if n > math.MaxInt64 {
			return n, err
		}
		return int64(n), err
	case kind >= 0xd0 && kind <= 0xd3:
		size := uint64(1) << (kind - 0xd0)
		n, err := d.number(size)
		shift := 64 - 8*size
		return int64(n<<shift) >> shift, err
	case kind >= 0xc4 && kind <= 0xc6:
		n, err := d.number(1 << (kind - 0xc4))
		if err != nil {
			return nil, err
		}
		return d.take(n)
	case kind >= 0xd9 && kind <= 0xdf:
		return d.sized(kind, depth)
	default:
		return nil, fmt.Errorf("the byte %#x, which begins no value of packline's", kind)
	}
}

// sized reads what has its length behind its first byte: texts, arrays and maps.
func (d *decoder) sized(kind byte, depth int) (any, error) {
	size := map[byte]uint64{0xd9: 1, 0xda: 2, 0xdb: 4, 0xdc: 2, 0xdd: 4, 0xde: 2, 0xdf: 4}[kind]
	n, err := d.number(size)
	switch {
	case err != nil:
		return nil, err
	case kind <= 0xdb:
		return d.text(n)
	case kind <= 0xdd:
		return d.array(n, depth)
	}
	return d.fields(n, depth)
}

func (d *decoder) text(n uint64) (any, error) {
	bytes, err := d.take(n)
	if err == nil && !utf8.Valid(bytes) {
		err = fmt.Errorf("text that is not UTF-8: % x", bytes)
	}
	return string(bytes), err
}

func (d *decoder) array(n uint64, depth int) (any, error) {
	if depth >= maxDepth {
		return nil, errDepth
	}
	parts := []any{} // It grows with what is there, not with what is claimed.
	for ; n > 0; n-- {
		part, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func (d *decoder) fields(n uint64, depth int) (any, error) {
	if depth >= maxDepth {
		return nil, errDepth
	}
	fields := Map{}
	for ; n > 0; n-- {
		key, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, fmt.Errorf("the key %v of a map is not text", key)
		}
		if fields[name], err = d.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

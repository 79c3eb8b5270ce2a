// Package inflate decompresses DEFLATE (RFC 1951) from memory to memory when the size of the content is known, as it is
// of the members that package records writes. That leaves out the window and the state of a stream, and takes a third to
// a half of the time; reading is what an erasure of one subject mostly does. See bench/records.
package inflate

import (
	"encoding/binary"
	"errors"
)

// ErrCorrupt says that the source is not DEFLATE, or not of the size that was asked for.
var ErrCorrupt = errors.New("not DEFLATE of this size")

// An entry of a table says what a code means. Its low byte is how many bits it takes and, in the upper three bits, what
// it is. Literals whose codes fit into an index together share an entry: up to three of them, in the upper three bytes.
//
//	literals:  0 | number (2 bits) | bits (5)   and the bytes in order
//	a length:  match    | bits with the extra ones, length of the code in the second byte, base in the upper two
//	a longer code: link | bits of the index, bits of the next index in the second byte, its place in the upper two
//	the end of the block: end | bits
type entry = uint32

const (
	match   = 0x80
	link    = 0xa0
	end     = 0xc0
	invalid = 0xe0
	kinds   = 0xe0
	taken   = 0x1f
)

const (
	maxCode    = 15 // bits (RFC 1951 §3.2.7)
	litBits    = 11 // of the first index
	distBits   = 8
	litCodes   = 288
	distCodes  = 32
	maxMatch   = 258
	headCodes  = 19
	headBits   = 7
	litTable   = 1<<litBits + litCodes/2<<(maxCode-litBits)
	distTable  = 1<<distBits + distCodes/2<<(maxCode-distBits)
	fastOutput = maxMatch + 8 + 16 // bytes that one turn of the fast loop may write, with what it writes too far
)

// headOrder is the order of the lengths of the codes for lengths (§3.2.7).
var headOrder = [headCodes]byte{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// Decoder decompresses. Its zero value is ready; it is used by one goroutine.
type Decoder struct {
	lit    [litTable]entry
	dist   [distTable]entry
	head   [1 << headBits]entry
	fixed  bool // lit and dist are those of fixed codes
	length [litCodes + distCodes]byte

	src []byte
	pos int    // of the next byte of src
	buf uint64 // bits that were read; those above count are either 0 or what comes next in src
	n   uint   // how many of them count
}

// Decode decompresses the stream at the beginning of src into the whole of dst, and returns how many bytes of src it
// takes. The error is [ErrCorrupt].
func (d *Decoder) Decode(dst, src []byte) (used int, err error) {
	d.src, d.pos, d.buf, d.n = src, 0, 0, 0
	defer func() { d.src = nil }()
	at := 0
	for last := false; !last; {
		h, ok := d.take(3)
		if !ok {
			return 0, ErrCorrupt
		}
		last = h&1 == 1
		switch h >> 1 {
		case 0:
			at, ok = d.stored(dst, at)
		case 1:
			if d.fixedCodes(); ok {
				at, ok = d.block(dst, at)
			}
		case 2:
			if ok = d.codes(); ok {
				at, ok = d.block(dst, at)
			}
		default:
			ok = false
		}
		if !ok {
			return 0, ErrCorrupt
		}
	}
	if at != len(dst) {
		return 0, ErrCorrupt
	}
	return d.pos - int(d.n/8), nil
}

// fill reads bytes until there are 56 bits or more, or no more bytes.
func (d *Decoder) fill() {
	if d.pos+8 <= len(d.src) {
		d.buf |= binary.LittleEndian.Uint64(d.src[d.pos:]) << d.n
		d.pos += int((63 - d.n) >> 3)
		d.n |= 56
		return
	}
	d.buf &= 1<<d.n - 1
	for d.n < 56 && d.pos < len(d.src) {
		d.buf |= uint64(d.src[d.pos]) << d.n
		d.pos++
		d.n += 8
	}
}

// take reads k bits, at most 32.
func (d *Decoder) take(k uint) (uint32, bool) {
	if d.n < k {
		if d.fill(); d.n < k {
			return 0, false
		}
	}
	v := uint32(d.buf & (1<<k - 1))
	d.buf >>= k
	d.n -= k
	return v, true
}

// stored copies a block that is not compressed (§3.2.4).
func (d *Decoder) stored(dst []byte, at int) (int, bool) {
	d.take(d.n & 7)
	d.pos -= int(d.n / 8)
	d.buf, d.n = 0, 0
	if d.pos+4 > len(d.src) {
		return at, false
	}
	size := int(binary.LittleEndian.Uint16(d.src[d.pos:]))
	if size != int(^binary.LittleEndian.Uint16(d.src[d.pos+2:])) {
		return at, false
	}
	d.pos += 4
	if size > len(d.src)-d.pos || size > len(dst)-at {
		return at, false
	}
	copy(dst[at:], d.src[d.pos:d.pos+size])
	d.pos += size
	return at + size, true
}

// block decompresses a block whose tables are made; at is where dst goes on.
func (d *Decoder) block(dst []byte, at int) (int, bool) {
	src, pos, buf, n := d.src, d.pos, d.buf, d.n
	for at <= len(dst)-fastOutput && pos <= len(src)-16 {
		buf |= binary.LittleEndian.Uint64(src[pos:]) << (n & 63)
		pos += int((63 - n) >> 3)
		n |= 56
		e := d.lit[buf&(1<<litBits-1)]
		if e&match == 0 {
			buf >>= e & taken
			n -= uint(e & taken)
			binary.LittleEndian.PutUint32(dst[at:], e>>8)
			at += int(e >> 5 & 3)
			if e = d.lit[buf&(1<<litBits-1)]; e&match == 0 {
				buf >>= e & taken
				n -= uint(e & taken)
				binary.LittleEndian.PutUint32(dst[at:], e>>8)
				at += int(e >> 5 & 3)
				if e = d.lit[buf&(1<<litBits-1)]; e&match == 0 {
					buf >>= e & taken
					n -= uint(e & taken)
					binary.LittleEndian.PutUint32(dst[at:], e>>8)
					at += int(e >> 5 & 3)
					continue
				}
			}
			buf |= binary.LittleEndian.Uint64(src[pos:]) << (n & 63)
			pos += int((63 - n) >> 3)
			n |= 56
		}
		if e&kinds == link {
			buf >>= e & taken
			n -= uint(e & taken)
			e = d.lit[e>>16+uint32(buf)&(1<<(e>>8&15)-1)]
			if e&match == 0 { // one literal
				buf >>= e & taken
				n -= uint(e & taken)
				dst[at] = byte(e >> 8)
				at++
				continue
			}
		}
		if e&kinds != match {
			buf >>= e & taken
			d.pos, d.buf, d.n = pos, buf, n-uint(e&taken)
			return at, e&kinds == end
		}
		length := int(e>>16) + int(buf&(1<<(e&taken)-1)>>(e>>8&15))
		buf >>= e & taken
		n -= uint(e & taken)

		e = d.dist[buf&(1<<distBits-1)]
		if e&kinds == link {
			buf >>= e & taken
			n -= uint(e & taken)
			e = d.dist[e>>16+uint32(buf)&(1<<(e>>8&15)-1)]
		}
		distance := int(e>>16) + int(buf&(1<<(e&taken)-1)>>(e>>8&15))
		buf >>= e & taken
		n -= uint(e & taken)
		if e&kinds != match || distance > at {
			return at, false
		}
		from, to := at-distance, at+length
		if distance >= 8 {
			for ; at < to; at, from = at+8, from+8 {
				binary.LittleEndian.PutUint64(dst[at:], binary.LittleEndian.Uint64(dst[from:]))
			}
			at = to
			continue
		}
		for ; at < to; at, from = at+1, from+1 {
			dst[at] = dst[from]
		}
	}
	d.pos, d.buf, d.n = pos, buf, n
	return d.rest(dst, at)
}

// rest does what block does, where the end of dst or src is near.
func (d *Decoder) rest(dst []byte, at int) (int, bool) {
	for {
		d.fill()
		e := d.lit[d.buf&(1<<litBits-1)]
		if e&kinds == link {
			d.skip(e)
			e = d.lit[e>>16+uint32(d.buf)&(1<<(e>>8&15)-1)]
		}
		if e&match == 0 {
			count := int(e >> 5 & 3)
			if uint(e&taken) > d.n || count > len(dst)-at {
				return at, false
			}
			d.skip(e)
			for e >>= 8; count > 0; count-- {
				dst[at] = byte(e)
				at++
				e >>= 8
			}
			continue
		}
		if uint(e&taken) > d.n {
			return at, false
		}
		if e&kinds != match {
			d.skip(e)
			return at, e&kinds == end
		}
		length := int(e>>16) + int(d.buf&(1<<(e&taken)-1)>>(e>>8&15))
		d.skip(e)

		d.fill()
		e = d.dist[d.buf&(1<<distBits-1)]
		if e&kinds == link {
			d.skip(e)
			e = d.dist[e>>16+uint32(d.buf)&(1<<(e>>8&15)-1)]
		}
		distance := int(e>>16) + int(d.buf&(1<<(e&taken)-1)>>(e>>8&15))
		if e&kinds != match || uint(e&taken) > d.n || distance > at || length > len(dst)-at {
			return at, false
		}
		d.skip(e)
		for to := at + length; at < to; at++ {
			dst[at] = dst[at-distance]
		}
	}
}

// skip takes an entry's bits away. The bits of a link may be more than there are; what follows them is then not.
func (d *Decoder) skip(e entry) {
	k := uint(e & taken)
	d.buf >>= k
	d.n -= min(k, d.n)
}

package inflate

import "math/bits"

// What the symbols mean (§3.2.5): entries without the bits of their codes.
var (
	lits  [litCodes]entry
	dists [distCodes]entry
	heads [headCodes]entry
)

func init() {
	for s := range lits {
		switch {
		case s < 256:
			lits[s] = entry(s)<<8 | 1<<5
		case s == 256:
			lits[s] = end
		default:
			lits[s] = invalid
		}
	}
	base := 3
	for s := 257; s < 285; s++ {
		extra := max(0, (s-261)/4)
		lits[s] = match | entry(base)<<16 | entry(extra)
		base += 1 << extra
	}
	lits[285] = match | maxMatch<<16
	base = 1
	for s := range dists {
		if s >= 30 {
			dists[s] = invalid
			continue
		}
		extra := max(0, s/2-1)
		dists[s] = match | entry(base)<<16 | entry(extra)
		base += 1 << extra
	}
	for s := range heads {
		heads[s] = entry(s)<<8 | 1<<5
	}
}

// fixedCodes makes the tables of §3.2.6.
func (d *Decoder) fixedCodes() {
	if d.fixed {
		return
	}
	l := d.length[:]
	for s := range l {
		switch {
		case s < 144:
			l[s] = 8
		case s < 256:
			l[s] = 9
		case s < 280:
			l[s] = 7
		case s < litCodes:
			l[s] = 8
		default:
			l[s] = 5
		}
	}
	build(d.lit[:], litBits, l[:litCodes], lits[:])
	build(d.dist[:], distBits, l[litCodes:], dists[:])
	join(&d.lit)
	d.fixed = true
}

// codes reads the codes of a block (§3.2.7) and makes its tables.
func (d *Decoder) codes() bool {
	d.fixed = false
	h, ok := d.take(14)
	if !ok {
		return false
	}
	nlit, ndist, nhead := int(h&31)+257, int(h>>5&31)+1, int(h>>10)+4
	if nlit > 286 || ndist > 30 {
		return false
	}
	var head [headCodes]byte
	for _, s := range headOrder[:nhead] {
		v, ok := d.take(3)
		if !ok {
			return false
		}
		head[s] = byte(v)
	}
	if !build(d.head[:], headBits, head[:], heads[:]) {
		return false
	}
	l := d.length[:nlit+ndist]
	for i := 0; i < len(l); {
		d.fill()
		e := d.head[d.buf&(1<<headBits-1)]
		if e&match != 0 || uint(e&taken) > d.n {
			return false
		}
		d.skip(e)
		s, times := byte(e>>8), 1
		if s > 15 {
			n, from, value := uint(2), 3, byte(0)
			switch {
			case s == 16 && i == 0:
				return false
			case s == 16:
				value = l[i-1]
			case s == 17:
				n = 3
			default:
				n, from = 7, 11
			}
			v, ok := d.take(n)
			if !ok {
				return false
			}
			s, times = value, from+int(v)
		}
		if times > len(l)-i {
			return false
		}
		for ; times > 0; times-- {
			l[i] = s
			i++
		}
	}
	if !build(d.lit[:], litBits, l[:nlit], lits[:]) || !build(d.dist[:], distBits, l[nlit:], dists[:]) {
		return false
	}
	join(&d.lit)
	return true
}

// build makes a table: an index by the first bits, and one of the rest for each beginning of longer codes. Codes must
// use all bits up, or be none, or one of one bit; it returns false otherwise.
func build(table []entry, first uint, lengths []byte, means []entry) bool {
	var count [maxCode + 1]int
	for _, l := range lengths {
		count[l]++
	}
	symbols := len(lengths) - count[0]
	count[0] = 0
	var next [maxCode + 2]int // code of the next symbol of each length
	for l := 1; l <= maxCode; l++ {
		next[l+1] = (next[l] + count[l]) << 1
	}
	if next[maxCode+1] != 2<<maxCode && (symbols > 1 || symbols != count[1]) {
		return false
	}
	for i := range table[:1<<first] {
		table[i] = invalid
	}
	free := 1 << first // where the next index may lie
	for s, l := range lengths {
		if l == 0 {
			continue
		}
		n := uint(l)
		code := int(bits.Reverse16(uint16(next[n])) >> (16 - n))
		next[n]++
		at, index := table[:1<<first], first
		if n > first {
			index = maxCode - first
			e := &table[code&(1<<first-1)]
			if *e == invalid {
				*e = link | entry(first) | entry(index)<<8 | entry(free)<<16
				free += 1 << index
			}
			at = table[*e>>16:][:1<<index]
			code >>= first
			n -= first
		}
		e := means[s]
		if e&kinds == match {
			e |= entry(n) << 8
		}
		if e != invalid {
			e += entry(n)
		}
		for ; code < 1<<index; code += 1 << n {
			at[code] = e
		}
	}
	return true
}

// join puts literals whose codes fit into one index together. It goes down, because what follows a code has a lower
// index and is to be one literal still.
func join(table *[litTable]entry) {
	for i := 1<<litBits - 1; i >= 0; i-- {
		e := table[i]
		if e&match != 0 {
			continue
		}
		for shift := uint(8); shift < 24; shift += 8 {
			n := e & taken
			f := table[i>>n]
			if f&match != 0 || n+f&taken > litBits {
				break
			}
			e = e&^0xff | f>>8&0xff<<(8+shift) | e&0xe0 + 1<<5 | (n + f&taken)
		}
		table[i] = e
	}
}

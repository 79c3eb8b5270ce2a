package s3

import "sync"

// budget bounds the bytes that are held in memory together. What needs more than all of it waits until it is alone.
type budget struct {
	mu   sync.Mutex
	free sync.Cond
	size int64
	used int64
}

func newBudget(size int64) *budget {
	b := &budget{size: size}
	b.free.L = &b.mu
	return b
}

// take waits for room and returns what gives it back.
func (b *budget) take(n int64) (back func()) {
	n = min(n, b.size)
	b.mu.Lock()
	for b.used+n > b.size {
		b.free.Wait()
	}
	b.used += n
	b.mu.Unlock()
	return func() {
		b.mu.Lock()
		b.used -= n
		b.mu.Unlock()
		b.free.Broadcast()
	}
}

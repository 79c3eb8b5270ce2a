package failure

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between Lethe and a server and can fail as a network does.
type proxy struct {
	address, server string

	mu       sync.Mutex
	listener net.Listener
	open     map[net.Conn]bool
	swallow  []byte // a command after which the server's answer is lost
	times    int    // how often
	lost     int
}

func newProxy(t *testing.T, server string) *proxy {
	t.Helper()
	p := &proxy{address: "127.0.0.1:0", server: server, open: map[net.Conn]bool{}}
	p.up(t)
	t.Cleanup(p.down)
	return p
}

// up accepts connections, at the same address as before.
func (p *proxy) up(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", p.address)
	require.NoError(t, err)
	p.mu.Lock()
	p.address, p.listener = l.Addr().String(), l
	p.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(c)
		}
	}()
}

// down refuses connections and cuts those that are open.
func (p *proxy) down() {
	p.mu.Lock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	p.mu.Unlock()
	p.cut()
}

// cut ends every open connection, whatever is under way.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close()
	}
}

// losing cuts the connection, for the given number of times, when the server answers a command.
func (p *proxy) losing(command string, times int) {
	p.mu.Lock()
	p.swallow, p.times = []byte(command), times
	p.mu.Unlock()
}

func (p *proxy) losses() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func (p *proxy) track(c net.Conn, is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if is {
		p.open[c] = true
	} else {
		delete(p.open, c)
	}
}

func (p *proxy) serve(client net.Conn) {
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		_ = client.Close()
		return
	}
	p.track(client, true)
	p.track(server, true)
	armed := false // the next answer is lost; guarded by mu
	pump := func(to, from net.Conn, up bool) {
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				p.mu.Lock()
				switch {
				case up && p.times > 0 && bytes.Contains(buf[:n], p.swallow):
					p.times--
					armed = true
				case !up && armed:
					p.lost++
					n, err = 0, io.EOF
				}
				p.mu.Unlock()
			}
			if n > 0 {
				if _, werr := to.Write(buf[:n]); werr != nil {
					err = werr
				}
			}
			if err != nil {
				_ = client.Close()
				_ = server.Close()
				return
			}
		}
	}
	var both sync.WaitGroup
	both.Go(func() { pump(server, client, true) })
	both.Go(func() { pump(client, server, false) })
	both.Wait()
	p.track(client, false)
	p.track(server, false)
}

// Gowebsocket is what a user would pick instead: an echo of WebSocket messages in Go,
// on a unix socket for a web server and on a TCP port for clients.
package main

import (
	"context"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/coder/websocket"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: gowebsocket SOCKET ADDRESS")
	}
	behind, err := net.Listen("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	direct, err := net.Listen("tcp", os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(direct, http.HandlerFunc(echo))) }()
	log.Fatal(http.Serve(behind, http.HandlerFunc(echo)))
}

func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer c.CloseNow()
	for {
		kind, data, err := c.Read(context.Background())
		if err != nil {
			return
		}
		if err := c.Write(context.Background(), kind, data); err != nil {
			return
		}
	}
}

// Command chat is the chat program of docs/programs.md, in Go. Build it, and
// name the binary in command:
//
//	go build -o /usr/local/bin/chat main.go
//
// Output: fmt.Println writes at once. Around a bufio.Writer, Flush after each
// message.
package main

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"strings"
)

func main() {
	name := cmp.Or(os.Getenv("REMOTE_USER"), "guest")
	n := 0

	fmt.Printf("Hello, %s. Say something; /quit ends.\n", name)
	// Not a bufio.Scanner: it gives up on lines of more than 64 KiB.
	for in := bufio.NewReader(os.Stdin); ; {
		line, err := in.ReadString('\n')
		if err != nil || line == "/quit\n" {
			break
		}
		n++
		fmt.Printf("%d: %s\n", n, strings.TrimSuffix(line, "\n"))
	}
	fmt.Printf("Bye, %s, after %d.\n", name, n)
}

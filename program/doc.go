// Package program is the app that gives each session a child process of its
// own: messages go to the child's stdin, what it writes to stdout are messages.
//
// Start with [New], which checks the options, and give the [App] to
// session.NewHandler. Apps of several endpoints share the limits on children
// through one [Limiter].
//
// The child is executed directly, without a shell, in a process group of its
// own, with three pipes and an environment that holds nothing of the server's.
// How messages look on its stdin and stdout is the [Framing]; how it is stopped
// is the table in stop.go. docs/programs.md tells the same from the program's
// side.
//
// Not supported: a terminal for the child, several sessions in one child, a
// child that outlives its session (what is left of its process group is killed).
// The package needs Linux: it looks at a child's exit without reaping it, so that its
// process group can't be mistaken for another's (waitid with WNOWAIT).
package program

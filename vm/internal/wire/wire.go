// Package wire is what the VM runner and the init process of its guest say to
// each other over a serial line of their own: a stream of gob values, Guest one
// way and Host the other. The kernel's console is another line, so nothing that
// is printed there can pass for a result.
package wire

import (
	"compress/flate"
	"encoding/gob"
	"fmt"
	"io"
)

// JobPath is where the guest's init finds its Job, as JSON.
const JobPath = "/job.json"

// AddCPU is the argument with which a process of the guest runs init's program
// to have the machine get one more CPU.
const AddCPU = "add-cpu"

// Job is what the guest is booted for.
type Job struct {
	Line    string   // the serial line of this conversation, as in "ttyS1"
	Argv    []string // the program and its arguments
	Dir     string   // its working directory
	Env     []string // its environment
	Mkdir   []string // directories to make before it starts
	Collect []string // files and directories to send back after it
	Modules []Module // of the kernel, to load before that, in this order
	Symbols []string // kernel symbols whose addresses the host wants to know
	Shell   *Window  // of the terminal of a shell that runs if the program stops or fails; nil: none does
}

// Module is a module of the kernel.
type Module struct {
	Path   string
	Params string // as in modprobe: name=value name=value
}

// Window is the size of a terminal.
type Window struct{ Rows, Columns uint16 }

// Guest is a message from the guest; one field is set.
type Guest struct {
	Hello  *Hello
	Output []byte // of the program: standard output and standard error, as they came
	File   *File
	Pong   *Pong
	Shell  *Shell
	Screen []byte // what the shell's terminal shows
	AddCPU bool   // somebody wants the machine to have one more CPU
	Exit   *Exit
}

// Shell is the beginning or the end of a shell in the guest.
type Shell struct {
	Ends bool
	Why  string // it begins, or could not
}

// Hello is the guest's first message. The program starts when the host has
// answered it.
type Hello struct {
	Release string              // uname -r
	Symbols map[string][]Symbol // all that have a requested name; none: there is no such symbol
	Unfit   string              // why the program cannot start, if it cannot
}

// Symbol is where something of the kernel's is. Its end is the address of what
// comes next.
type Symbol struct{ Address, End uint64 }

// File is one of the files in Job.Collect.
type File struct {
	Path string
	Data []byte
}

// Exit is the guest's last message.
type Exit struct {
	Code  int    // the program's exit status; 128 + signal when a signal ended it
	Error string // why the program could not be run, when it could not
}

// Host is the host's answer to Hello: the program may start. After it, the host
// sends pings, and what is typed at a shell.
type Host struct{ Start bool }

// A ping is one byte. The guest answers what it has read of them with one Pong.
// No ping depends on another one: a guest that sleeps (S3) loses some.
const (
	Ping    = '.' // are you there?
	Examine = '?' // and does your kernel still do its work?
)

// Keys begins what was typed: a byte with its length follows, and then as many
// bytes.
const Keys = '<'

// MostKeys is how much can be sent at once, so that one write is enough.
const MostKeys = 62

// Pong is the guest's answer to pings.
type Pong struct {
	// Stuck names the checks of the kernel that began StuckAfter examinations
	// ago, or earlier, and have not ended. The guest counts in the host's
	// pings: its own clock may stand still.
	Stuck []string
}

// StuckAfter is a number of examinations.
const StuckAfter = 6

// Sender is the guest's end of the way to the host. An emulated serial line
// takes 5 µs a byte, so what goes over it is compressed (DEFLATE).
type Sender struct {
	flate *flate.Writer
	gob   *gob.Encoder
}

// NewSender returns the sender for a line.
func NewSender(line io.Writer) *Sender {
	w, err := flate.NewWriter(line, flate.DefaultCompression)
	if err != nil {
		panic(err) // there is no such level
	}
	return &Sender{w, gob.NewEncoder(w)}
}

// Send sends a message. All of it has been written when it returns.
func (s *Sender) Send(m Guest) error {
	if err := s.gob.Encode(m); err != nil {
		return err
	}
	return s.flate.Flush()
}

// Receiver is the host's end of the way from the guest.
type Receiver struct {
	max     int64
	limited io.LimitedReader
	gob     *gob.Decoder
}

// NewReceiver returns the receiver for a line. max bounds a message, in bytes:
// a few from the guest can unpack to any number.
func NewReceiver(line io.Reader, max int64) *Receiver {
	r := &Receiver{max: max, limited: io.LimitedReader{R: flate.NewReader(line)}}
	r.gob = gob.NewDecoder(&r.limited)
	return r
}

// Receive waits for a message and returns it. The error is [io.EOF] or
// [io.ErrUnexpectedEOF] where the line ends, and any other where it has
// something that is no message.
func (r *Receiver) Receive() (Guest, error) {
	r.limited.N = r.max
	var m Guest
	err := r.gob.Decode(&m)
	if err != nil && r.limited.N <= 0 {
		err = fmt.Errorf("a message of more than %d bytes", r.max)
	}
	return m, err
}

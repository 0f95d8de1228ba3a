// Package wire is what the VM runner and the init process of its guest say to each other over a serial line of their
// own: a stream of gob values, Guest one way and Host the other. The kernel's console is another line, so nothing that
// is printed there can pass for a result.
package wire

import "time"

// JobPath is where the guest's init finds its Job, as JSON.
const JobPath = "/job.json"

// Job is what the guest is booted for.
type Job struct {
	Line    string        // the serial line of this conversation, as in "ttyS1"
	Argv    []string      // the program and its arguments
	Dir     string        // its working directory
	Env     []string      // its environment
	Mkdir   []string      // directories to make before it starts
	Collect []string      // files and directories to send back after it
	Symbols []string      // kernel symbols whose addresses the host wants to know
	Limit   time.Duration // when to have the kernel show its blocked tasks, counted from the kernel's boot; 0: never
}

// Guest is a message from the guest; one field is set.
type Guest struct {
	Hello  *Hello
	Output []byte // of the program: standard output and standard error, as they came
	File   *File
	Exit   *Exit
}

// Hello is the guest's first message. The program starts when the host has answered it.
type Hello struct {
	Release string              // uname -r
	Symbols map[string][]Symbol // all that have a requested name; none: there is no such symbol
}

// Symbol is where something of the kernel's is. Its end is the address of what comes next.
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

// Host is the host's answer to Hello: the program may start.
type Host struct{ Start bool }

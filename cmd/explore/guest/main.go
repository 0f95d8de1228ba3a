// Command guest is the part of cmd/explore that runs in its virtual machine: it
// explores the kernel, or tries the sequences that it is given, and prints what
// happens: a JSON object a line, an [explore.Event] each.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hotplugtest/hotplugtest/affinity"
	"github.com/hotplugtest/hotplugtest/explore"
	"github.com/hotplugtest/hotplugtest/internal/sysfs"
	"github.com/hotplugtest/hotplugtest/suspend"
)

// options are what the command line says.
type options struct {
	seed, first uint64
	length      int
	time        time.Duration
	found       string // keys, a line each
	known       bool
	most        int
	replay      string // sequences, with empty lines between
	law         string // the key of what replays must show
}

func main() {
	if filepath.Base(os.Args[0]) == "chrt" {
		if err := explore.SetClass(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "chrt:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getppid() != 1 || !inMemory("/") {
		fmt.Fprintln(os.Stderr, "guest: takes CPUs offline and makes cpusets: it is made for the VMs of ci/explore")
		os.Exit(2)
	}
	var o options
	flag.Uint64Var(&o.seed, "seed", 1, "decides what is drawn")
	flag.Uint64Var(&o.first, "first", 0, "`number` of the first sequence")
	flag.IntVar(&o.length, "length", 0, "`steps` of a sequence")
	flag.DurationVar(&o.time, "for", time.Minute, "`time` to explore")
	flag.StringVar(&o.found, "found", "", "keys of findings that were made, a line each")
	flag.IntVar(&o.most, "findings", 0, "end after this `number` of new findings; 0: go on")
	flag.BoolVar(&o.known, "known", true, "do not reduce findings that are known to be defects of this kernel")
	flag.StringVar(&o.replay, "replay", "", "sequences to try instead, with empty lines between")
	flag.StringVar(&o.law, "law", "", "the `key` of what they must show; \"\": anything")
	flag.Parse()
	// CPUs come and go. At most two commands run at the same time.
	runtime.GOMAXPROCS(2)
	debug.SetGCPercent(500) // the program has few megabytes
	if err := o.run(); err != nil {
		tell := err.Error()
		report(explore.Event{Trouble: &tell})
		if errors.Is(err, explore.ErrCannot) {
			os.Exit(125)
		}
		os.Exit(1)
	}
}

// inMemory reports whether a directory is in a file system in memory, as that
// of an initramfs is.
func inMemory(dir string) bool {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return false
	}
	// The type is signed, and of 32 bits on some architectures.
	magic := uint32(s.Type)
	return magic == unix.RAMFS_MAGIC || magic == unix.TMPFS_MAGIC
}

// report prints an event.
func report(e explore.Event) {
	line, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(append(line, '\n'))
}

func (o *options) run() error {
	tables := explore.Default()
	runner, done, err := explore.Ready("", affinity.CPUSet{}, tables)
	if err != nil {
		return err
	}
	var uname unix.Utsname
	if err := unix.Uname(&uname); err != nil {
		return err
	}
	// A suspend by pm_test turns back at once. Without CONFIG_PM_DEBUG there is
	// none.
	if err := suspend.New("/").SetTestDelay(0); err != nil && !errors.Is(err, suspend.ErrNotSupported) {
		return err
	}
	// The console is a slow serial line, and each operation has a message.
	// Warnings go on to be printed: they are the last words of a kernel that
	// dies.
	if err := sysfs.WriteLine("/proc/sys/kernel/printk", "5"); err != nil {
		return err
	}
	runner.Begin = func(n int) { fmt.Printf("{\"Step\":%d}\n", n) } // 40 a second, on an emulated CPU
	e := &explore.Explorer{
		Runner: runner, Tables: tables, Seed: o.seed, First: o.first, Length: o.length, Most: o.most,
		Kernel: unix.ByteSliceToString(uname.Release[:]), Report: report,
	}
	if o.known {
		e.Known = explore.KnownIn(runner.Facts.Version)
	}
	if o.found != "" {
		e.Found = strings.Split(o.found, "\n")
	}
	ctx, cancel := context.WithTimeout(context.Background(), o.time)
	defer cancel()
	explored := func() error {
		if o.replay == "" {
			return e.Run(ctx)
		}
		sequences, err := explore.ReadSequences(o.replay)
		if err != nil {
			return err
		}
		return e.Replay(sequences, o.law)
	}
	return errors.Join(explored(), done())
}

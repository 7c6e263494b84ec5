//go:build !linux

package main

// onTerminal runs on Linux only.
func onTerminal() {}

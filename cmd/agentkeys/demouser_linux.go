package main

import "syscall"

// otherUser is who the demo's agents are under root: nobody, with no groups.
func otherUser() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: false}}
}

// Package devcloud is the object store of the development stack: a real S3 and a
// real STS on loopback, with the roles and policies of docs/spec/store.md. S3 is
// versitygw on a directory; STS, sessions and durability are here.
//
// Start with [Run]. One process runs one devcloud at a time, and Run changes the
// working directory of the process, because versitygw keeps both globally.
package devcloud

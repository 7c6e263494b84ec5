package main

import "context"

func (d *demo) verify(context.Context) error { return nil }

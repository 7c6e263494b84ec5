// Package agentkeys is the vocabulary of AgentKeys: one type per word of
// docs/spec/words.md, the domain tag that ties every hash and signature to one
// vault, and [Secret], the only thing that ever holds plaintext.
//
// It depends on the standard library alone and never on net, log or a text
// format, because the rotator links it.
package agentkeys

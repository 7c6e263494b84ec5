package agentkeys

// DomainTag returns ASCII "agentkeys/<purpose>/v1", 0x00 and the vault id: the
// prefix of everything hashed, signed or derived. A purpose that already ends in
// a version ("shielding/v1") keeps it.
func DomainTag(purpose string, vault VaultID) []byte {
	if len(purpose) < 3 || purpose[len(purpose)-3:] != "/v1" {
		purpose += "/v1"
	}
	b := make([]byte, 0, len("agentkeys/")+len(purpose)+1+len(vault))
	b = append(b, "agentkeys/"...)
	b = append(b, purpose...)
	b = append(b, 0)
	return append(b, vault[:]...)
}

package statement

import (
	"example.org/agentkeys"
	"example.org/agentkeys/receipt"
)

// readBody reads the body of a kind, or nil for an unknown one.
func readBody(k Kind, r *agentkeys.Reader) Body {
	switch k {
	case KindEnrol:
		return readEnrol(r)
	case KindAdmitAgent:
		return readAdmitAgent(r)
	case KindRevokeAgent:
		return readRevokeAgent(r)
	case KindGrant:
		return readGrant(r)
	case KindDelete:
		return readDelete(r)
	case KindAskRotation:
		return readAskRotation(r)
	case KindRegisterBlob:
		return readRegisterBlob(r)
	case KindDrop:
		return readDrop(r)
	case KindReportLost:
		return readReportLost(r)
	case KindOpenEpoch:
		return OpenEpoch{receipt.ReadMade(r), r.U64()}
	case KindRotateBlobs:
		return RotateBlobs{receipt.ReadRotated(r), r.U64()}
	case KindRewrapDEK:
		return RewrapDEK{receipt.ReadRewrapped(r), r.U64()}
	case KindDestroyEpoch:
		return readDestroyEpoch(r)
	case KindCommitTree:
		return readCommitTree(r)
	case KindTakeKeeper:
		return readTakeKeeper(r)
	case KindRecordReads:
		return readRecordReads(r)
	case KindHeartbeat:
		return readHeartbeat(r)
	case KindVouch:
		return readVouch(r)
	}
	return readAct(k, r)
}

func readAct(k Kind, r *agentkeys.Reader) Body {
	switch k {
	case KindSetParams:
		return SetParams{ReadParams(r), r.U64()}
	case KindAllowMeasurement:
		role, platform, m := readMeasurement(r)
		return AllowMeasurement{role, platform, m}
	case KindRemoveMeasurement:
		role, platform, m := readMeasurement(r)
		return RemoveMeasurement{role, platform, m}
	case KindRegisterEnclave:
		return readRegisterEnclave(r)
	case KindRevokeEnclave:
		return readRevokeEnclave(r)
	case KindSetOidcKey:
		var s SetOidcKey
		r.Copy(s.KeyHash[:])
		s.Active = r.Bool()
		return s
	case KindAddAnchor:
		return AddAnchor{readAnchorID(r), r.U8()}
	case KindRetireAnchor:
		return RetireAnchor{readAnchorID(r)}
	case KindEvictAnchor:
		return EvictAnchor{readAnchorID(r)}
	case KindRotateUser:
		var s RotateUser
		r.Copy(s.User[:])
		return s
	case KindRotateAll:
		return RotateAll{}
	}
	return nil
}

"""Workers in processes of their own, on this machine or on many hosts, by Ray; what they do is no matter here."""

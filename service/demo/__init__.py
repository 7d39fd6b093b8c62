"""The demonstration: settings that ``podium serve`` runs without any, and a run of shoppers."""

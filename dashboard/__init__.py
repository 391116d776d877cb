"""The screen: pages over run folders. Reads what runs wrote and sends commands; imports nothing that trains."""

"""What a campaign will cost before it is paid for: gas, bytes, time.

gas        what its transactions take
speed      what this machine's arithmetic takes
networks   what it takes to train and judge a network here
estimate   both, and sizes, put together for a campaign
"""

"""Sell things, and count what is sold with one metric of each kind."""

from fastapi import FastAPI, HTTPException

from tercet import Counter, Gauge, Histogram, UpDownCounter

app = FastAPI()
sold = Counter("shop.sold", "Things sold.", attributes=("thing",))
stock = Gauge("shop.stock", "Things that are there.", attributes=("thing",))
baskets = UpDownCounter("shop.baskets", "Baskets that are not paid yet.")
weight = Histogram("shop.weight", "Weight of a parcel.", unit="kg", buckets=(1, 5, 20))


@app.post("/things/{thing}")
async def sell(thing: str) -> None:
    baskets.add(1)
    if thing == "moon":
        raise HTTPException(404)
    if thing == "glass":
        raise RuntimeError("it broke")
    sold.add(1, thing=thing)
    stock.set(7, thing=thing)
    weight.record(2.5)

"""/udf: market data in the dialect of TradingView's UDF datafeeds (docs/HTTP.md)."""

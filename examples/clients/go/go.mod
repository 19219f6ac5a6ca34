module packline.example/packline

go 1.19
